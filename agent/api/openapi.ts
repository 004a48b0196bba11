// GET /v1/openapi.json: the peer API described from the zod schemas that check it, so that the two cannot differ.
import { z } from "zod";
import { checkAnswer, checkRequest } from "../check_report.ts";
import { nodeReport } from "../report.ts";
import { problemBody } from "./problems.ts";
import {
  certificateAnswer,
  certificateRequest,
  joinAnswer,
  joinRequest,
  keyProofAnswer,
  keyProofBegun,
  keyProofRequest,
  newPackAnswer,
  newPackRequest,
  positionAnswer,
  rowAnswer,
  rowRequest,
} from "./schemas.ts";

const schemas = {
  NodeReport: nodeReport,
  JoinRequest: joinRequest,
  JoinAnswer: joinAnswer,
  RowRequest: rowRequest,
  RowAnswer: rowAnswer,
  PositionAnswer: positionAnswer,
  CertificateRequest: certificateRequest,
  CertificateAnswer: certificateAnswer,
  KeyProofRequest: keyProofRequest,
  KeyProofAnswer: z.union([keyProofBegun, keyProofAnswer]),
  CheckRequest: checkRequest,
  CheckAnswer: checkAnswer,
  NewPackRequest: newPackRequest,
  NewPackAnswer: newPackAnswer,
  Problem: problemBody,
};
type Name = keyof typeof schemas;

const content = (name: Name) => ({ "application/json": { schema: { $ref: `#/components/schemas/${name}` } } });
const json = (description: string, name: Name) => ({ description, content: content(name) });
const bytes = (description: string) => ({
  description,
  content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } },
});
const refusals = {
  "400": json("the request is malformed", "Problem"),
  "409": json("the two nodes do not belong together, or this state forbids it", "Problem"),
};
const query = (name: string, description: string, required: boolean) => ({
  name,
  in: "query",
  required,
  description,
  schema: { type: "string" },
});

/** OpenAPI 3.1 document of the peer API. */
export function openApi(agentVersion: string): Record<string, unknown> {
  return {
    openapi: "3.1.0",
    info: {
      title: "hapair peer API",
      version: agentVersion,
      description: "Mutual TLS 1.3; only the holder of the pinned peer certificate gets past the handshake.",
    },
    paths: {
      "/v1/peer": {
        get: { summary: "who this node is and what it does", responses: { "200": json("its report", "NodeReport") } },
      },
      "/v1/heartbeat": {
        post: {
          summary: "exchanges reports",
          requestBody: { required: true, content: content("NodeReport") },
          responses: { "200": json("the receiver's report", "NodeReport"), ...refusals },
        },
      },
      "/v1/join": {
        post: {
          summary: "a new secondary has its certificate pinned; asked with the one-time certificate of the pack",
          requestBody: { required: true, content: content("JoinRequest") },
          responses: { "200": json("pinned", "JoinAnswer"), ...refusals },
        },
      },
      "/v1/row": {
        post: {
          summary: "one row as it is here: for a row that has to be put back whole, large values too",
          requestBody: { required: true, content: content("RowRequest") },
          responses: { "200": json("the row", "RowAnswer"), ...refusals },
        },
      },
      "/v1/position": {
        post: {
          summary: "how far the receiver's changes go by now: where a rehearsal of their merge ends",
          responses: { "200": json("the position", "PositionAnswer"), ...refusals },
        },
      },
      "/v1/certificate": {
        post: {
          summary: "a new certificate of the caller: pinned beside the present one, then, once in use, in its place",
          requestBody: { required: true, content: content("CertificateRequest") },
          responses: { "200": json("pinned", "CertificateAnswer"), ...refusals },
        },
      },
      "/v1/key/proof": {
        post: {
          summary: "proves by challenge and response that both nodes have the same master key",
          requestBody: { required: true, content: content("KeyProofRequest") },
          responses: { "200": json("a challenge, or the result", "KeyProofAnswer"), ...refusals },
        },
      },
      "/v1/check": {
        post: {
          summary: "the receiver's view for agent check: of itself, and whether it reaches the caller's two ports",
          requestBody: { required: true, content: content("CheckRequest") },
          responses: { "200": json("its findings, and what is to be compared", "CheckAnswer"), ...refusals },
        },
      },
      "/v1/changes": {
        get: {
          summary: "the stream of changes: PostgreSQL CopyData frames, without end",
          parameters: [
            query("after", "LSN up to which the caller has applied this node's stream", true),
            query("generation", "which seed the stream belongs to", true),
            query("capturing", "1 if the caller captures changes of its own, else 0", true),
          ],
          responses: { "200": bytes("frames"), ...refusals },
        },
      },
      "/v1/pack": {
        get: {
          summary: "the newest HAPack.zip; takes one range, which If-Range binds to an ETag; opened by a token too",
          responses: {
            "200": bytes("the whole"),
            "206": bytes("a range"),
            "416": { description: "the range begins behind its end" },
            ...refusals,
          },
        },
        head: { summary: "its size and ETag", responses: { "200": { description: "as of GET" }, ...refusals } },
      },
      "/v1/pack/new": {
        post: {
          summary: "the primary makes its pack anew, for a reseed of its pinned secondary; asked again, how far it is",
          requestBody: { required: true, content: content("NewPackRequest") },
          responses: { "200": json("how far it is", "NewPackAnswer"), ...refusals },
        },
      },
    },
    components: {
      schemas: Object.fromEntries(
        Object.entries(schemas).map(([name, schema]) => {
          const { $schema: _, ...rest } = z.toJSONSchema(schema);
          return [name, rest];
        }),
      ),
    },
  };
}
