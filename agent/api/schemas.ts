// The bodies of the peer API beside the node report; the OpenAPI document is made from them. No logic.
import { z } from "zod";
import { lsnText, roles } from "../report.ts";

export const joinRequest = z.strictObject({
  name: z.string().min(1).max(255),
  pair_id: z.string().max(100),
  generation: z.string().max(100),
  certificate: z.string().max(20_000).startsWith("-----BEGIN CERTIFICATE-----")
    .meta({ description: "the secondary's own certificate, PEM; its key stays where it was made" }),
});
export type JoinRequest = z.infer<typeof joinRequest>;

export const joinAnswer = z.object({ pinned: z.literal(true), name: z.string() });
export type JoinAnswer = z.infer<typeof joinAnswer>;

/** A row as column name -> text of its value; null is NULL. */
const rowImage = z.record(z.string().max(63 * 4), z.string().nullable());

/** Asks for one row of a replicated table as it is at the receiver. */
export const rowRequest = z.object({
  schema: z.string().min(1).max(63 * 4),
  table: z.string().min(1).max(63 * 4),
  key: rowImage.meta({ description: "the columns that name the row" }),
});
export type RowRequest = z.infer<typeof rowRequest>;

export const rowAnswer = z.object({ row: rowImage.nullable().meta({ description: "null: there is no such row" }) });
export type RowAnswer = z.infer<typeof rowAnswer>;

/** How far the changes of the node that answers go by now. */
export const positionAnswer = z.object({
  capturing: z.boolean().meta({ description: "false: it has none that the caller could lack" }),
  lsn: lsnText.meta({ description: "its own WAL position; its stream has a transaction right behind it" }),
});
export type PositionAnswer = z.infer<typeof positionAnswer>;

/** A node that changes its certificate tells the peer, first before it uses it, then with it. */
export const certificateRequest = z.strictObject({
  certificate: z.string().max(100_000).startsWith("-----BEGIN CERTIFICATE-----")
    .meta({ description: "PEM; the certificates of its issuers follow, if it is not signed by itself" }),
});
export type CertificateRequest = z.infer<typeof certificateRequest>;

export const certificateAnswer = z.object({
  fingerprint: z.string().meta({ description: "of the certificate that is pinned, SHA-256" }),
  in_use: z.boolean().meta({ description: "this very request came with it: the former one is not accepted any more" }),
});
export type CertificateAnswer = z.infer<typeof certificateAnswer>;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const party = { name: z.string().min(1).max(255), role: z.enum(roles) };

/** The two requests of one key proof: challenges first, then the asker's proof. */
export const keyProofRequest = z.discriminatedUnion("step", [
  z.strictObject({ step: z.literal("begin"), ...party, challenge: hash }),
  z.strictObject({
    step: z.literal("prove"),
    challenge: hash.meta({ description: "that of the answer to begin" }),
    proof: hash,
  }),
]);
export type KeyProofRequest = z.infer<typeof keyProofRequest>;

export const keyProofBegun = z.object({ ...party, challenge: hash });
export type KeyProofBegun = z.infer<typeof keyProofBegun>;

export const keyProofAnswer = z.object({
  same: z.boolean().meta({ description: "whether the asker has the same master key" }),
  proof: hash.nullable().meta({ description: "the answerer's own, if so" }),
});
export type KeyProofAnswer = z.infer<typeof keyProofAnswer>;

/** Asks the primary to make its pack anew, for a reseed; then how far that is. */
export const newPackRequest = z.strictObject({
  id: z.string().max(100).nullable().meta({ description: "null: make one; else the one that an earlier answer named" }),
});

export const newPackAnswer = z.object({
  id: z.string().nullable().meta({ description: "null: none is being made" }),
  state: z.enum(["waiting", "making", "made", "failed"]).meta({ description: "waiting: until the primary serves" }),
  bytes: z.number().min(0),
  total: z.number().min(0).meta({ description: "an estimate" }),
  error: z.string().nullable(),
  remedy: z.string().nullable(),
});
export type NewPackAnswer = z.infer<typeof newPackAnswer>;
