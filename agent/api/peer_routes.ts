// The JSON part of the peer API. Everything it knows or does is handed in; it checks bodies and whether the two nodes
// belong together. Never takes the word of a node of another pair, generation or protocol.
import { getLogger } from "@logtape/logtape";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { z } from "zod";
import { type CheckAnswer, type CheckRequest, checkRequest } from "../check_report.ts";
import { reason, RefusedError } from "../errors.ts";
import { type NodeReport, nodeReport, pairProblem, pairRemedy } from "../report.ts";
import { openApi } from "./openapi.ts";
import { answerErrors, answerUnknown, problem, readBody } from "./problems.ts";
import {
  type CertificateAnswer,
  type CertificateRequest,
  certificateRequest,
  type JoinAnswer,
  type JoinRequest,
  joinRequest,
  type KeyProofAnswer,
  type KeyProofBegun,
  type KeyProofRequest,
  keyProofRequest,
  type NewPackAnswer,
  newPackRequest,
  type PositionAnswer,
  type RowAnswer,
  type RowRequest,
  rowRequest,
} from "./schemas.ts";
import type { PeerEnv } from "./serve.ts";

/** For a secondary that is reseeded: the making outlives the request. */
export interface PackMaking {
  /** Begins to make one where `id` is null and none is being made. Throws RefusedError where that cannot be. */
  ask(id: string | null): NewPackAnswer;
}

export interface PeerSide {
  /** This node's own report, as of now. */
  report(): NodeReport | Promise<NodeReport>;
  /** A heartbeat of a peer that belongs to this pair. */
  heard(report: NodeReport): void;
  /** A heartbeat of one that does not: why, in one sentence. */
  mismatched(problem: string): void;
  /** Pins the certificate of a secondary that joins. Throws RefusedError where no join is open. */
  join(request: JoinRequest): JoinAnswer | Promise<JoinAnswer>;
  /** One row of a replicated table as it is here. Throws RefusedError where there is no such table. */
  readRow(request: RowRequest): Promise<RowAnswer["row"]>;
  /** How far this node's changes go by now. */
  position(): Promise<PositionAnswer>;
  /** Pins a new certificate of the peer; `shown`: the fingerprint of the one that it came with. */
  takeCertificate(request: CertificateRequest, shown: string): CertificateAnswer;
  /** A step of a key proof. Throws RefusedError where it cannot be taken. */
  proveKey(request: KeyProofRequest): KeyProofBegun | KeyProofAnswer;
  /** This node's own view of itself and of the way to the caller. */
  check(request: CheckRequest): Promise<CheckAnswer>;
  /** Makes packs anew; without it none can be asked for. */
  readonly packs?: PackMaking;
}

const log = getLogger(["hapair", "api", "peer"]);
const maxBodyBytes = 1024 * 1024;

/** Only the version: all else may differ in a report of another version. */
const versioned = z.looseObject({ protocol: z.number(), name: z.string().max(255) });

const known = {
  "/v1/peer": ["GET"],
  "/v1/heartbeat": ["POST"],
  "/v1/join": ["POST"],
  "/v1/row": ["POST"],
  "/v1/position": ["POST"],
  "/v1/certificate": ["POST"],
  "/v1/key/proof": ["POST"],
  "/v1/check": ["POST"],
  "/v1/pack/new": ["POST"],
  "/v1/openapi.json": ["GET"],
};

export function peerApp(side: PeerSide): Hono<PeerEnv> {
  const app = new Hono<PeerEnv>();
  app.onError(answerErrors((path, error) => log.error("{path} failed: {reason}", { path, reason: reason(error) })));
  app.notFound(answerUnknown(known));
  app.use(bodyLimit({
    maxSize: maxBodyBytes,
    onError: (c) => problem(c, 413, `Cannot read the body of ${c.req.path}: it is over ${maxBodyBytes} bytes`),
  }));

  app.get("/v1/peer", async (c) => c.json(await side.report()));

  app.post("/v1/heartbeat", async (c) => {
    const here = await side.report();
    const body = await readBody(c, versioned);
    const there = body.protocol === here.protocol ? await readBody(c, nodeReport) : body as NodeReport;
    const wrong = pairProblem(here, there);
    if (wrong) {
      side.mismatched(wrong);
      throw new RefusedError(`Cannot pair: ${wrong}`, pairRemedy(here, there));
    }
    side.heard(there);
    return c.json(here);
  });

  app.post("/v1/join", async (c) => {
    const request = await readBody(c, joinRequest);
    const here = await side.report();
    if (request.pair_id !== here.pair_id || request.generation !== here.generation) {
      throw new RefusedError(
        `Cannot join: ${request.name} was set up from another pack than the newest of ${here.name}`,
        "set the secondary up from the newest HAPack.zip",
      );
    }
    return c.json(await side.join(request));
  });

  app.post("/v1/row", async (c) => c.json({ row: await side.readRow(await readBody(c, rowRequest)) }));

  app.post("/v1/position", async (c) => c.json(await side.position()));

  app.post("/v1/certificate", async (c) => {
    const request = await readBody(c, certificateRequest);
    return c.json(side.takeCertificate(request, c.env.peerCertificate));
  });

  app.post("/v1/key/proof", async (c) => c.json(side.proveKey(await readBody(c, keyProofRequest))));

  app.post("/v1/check", async (c) => c.json(await side.check(await readBody(c, checkRequest))));

  const { packs } = side;
  if (packs) app.post("/v1/pack/new", async (c) => c.json(packs.ask((await readBody(c, newPackRequest)).id)));

  app.get("/v1/openapi.json", async (c) => c.json(openApi((await side.report()).agent_version)));
  return app;
}
