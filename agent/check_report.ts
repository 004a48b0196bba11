// The words of `agent check` that both nodes share: a finding, and what one node tells of itself so that the other can
// compare. Shape only: decides nothing. Names and versions, never a password or a value of a row.
import { z } from "zod";
import { roles } from "./report.ts";

export const severities = ["ok", "warning", "error"] as const;
export type Severity = typeof severities[number];

const text = z.string();
const name = z.string().max(63 * 4);

export const finding = z.object({
  name: z.string().max(100),
  severity: z.enum(severities),
  node: z.string().max(255).meta({ description: "who has found it" }),
  message: text,
  remedy: text.nullable().meta({ description: "null where there is nothing to do" }),
});
export type Finding = z.infer<typeof finding>;

/** A collation as one server has it. `recorded`: by which its indexes were built; `actual`: what this machine has now. */
export const collationFacts = z.object({
  /** The database's name for its default collation, else `schema.name`. */
  label: z.string().max(300),
  /** True: a database's default collation. */
  ofDatabase: z.boolean(),
  provider: z.string().max(20),
  /** Its locale, as the provider knows it; two collations of one name may differ in it. */
  locale: z.string().max(300),
  recorded: z.string().max(100).nullable(),
  actual: z.string().max(100).nullable(),
  /** Indexes that depend on it, in the replicated database. */
  indexes: z.array(z.string().max(300)).max(10_000),
});
export type CollationFacts = z.infer<typeof collationFacts>;

/** A login role or a group, with what it may do as a few words. */
export const roleFacts = z.object({
  name,
  attributes: z.string().max(2000),
  login: z.boolean(),
  /** The beginning of a hash over the salted verifier of its password; null: it has none, or that may not be read. */
  password: z.string().max(20).nullable(),
});
export type RoleFacts = z.infer<typeof roleFacts>;

export const sequenceFacts = z.object({
  label: z.string().max(300),
  increment: z.string().max(30),
  min: z.string().max(30),
  max: z.string().max(30),
  /** Its bounds then differ by one step between the two nodes. */
  cycle: z.boolean(),
});
export type SequenceFacts = z.infer<typeof sequenceFacts>;

/** What a node tells of its database so that the other can compare; null where it could not be looked at. */
export const comparedDatabase = z.object({
  version: z.string().max(50),
  major: z.number().int(),
  encoding: z.string().max(50),
  roles: z.array(roleFacts).max(10_000),
  collations: z.array(collationFacts).max(10_000),
  sequences: z.array(sequenceFacts).max(100_000),
});
export type ComparedDatabase = z.infer<typeof comparedDatabase>;

/** Asks a node to look: `postgres_port` is where it shall try the caller's PostgreSQL, at the caller's configured host. */
export const checkRequest = z.strictObject({
  postgres_port: z.number().int().min(1).max(65_535),
});
export type CheckRequest = z.infer<typeof checkRequest>;

/** A node's own view, and what is needed to compare the two. */
export const checkAnswer = z.object({
  name: z.string().min(1).max(255),
  role: z.enum(roles),
  agent_version: z.string().max(50),
  protocol: z.number().int(),
  postgres_port: z.number().int().min(1).max(65_535),
  clock_ms: z.number(),
  findings: z.array(finding).max(1000).meta({ description: "what it finds at itself, and of the way to the caller" }),
  database: comparedDatabase.nullable(),
});
export type CheckAnswer = z.infer<typeof checkAnswer>;
