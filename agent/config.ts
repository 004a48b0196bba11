// conf/agent.toml: its shape, its defaults, and the errors for what does not fit. Never guesses at a key it does not know.
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { isAbsolute } from "node:path";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { reason, UsageError } from "./errors.ts";
import { danglingPolicies, defaultPolicy, deletePolicies, rowPolicies, uniquePolicies } from "./merge/policy.ts";

const address = z.string().refine(
  (text) => {
    const bracketed = /^\[([^\]]*)\]:(\d{1,5})$/.exec(text);
    if (bracketed) return isIP(bracketed[1]) === 6 && isPort(Number(bracketed[2]));
    const plain = /^([^\s:/[\]]+):(\d{1,5})$/.exec(text);
    return plain !== null && !isNoAddress(plain[1]) && isPort(Number(plain[2]));
  },
  "must be host:port, like db1.example.com:8282, 192.0.2.1:8282 or [2001:db8::1]:8282",
);
const isPort = (port: number) => port >= 1 && port <= 65_535;
/** Digits and dots that look like an address and are none. */
export const isNoAddress = (host: string): boolean => /^[\d.]+$/.test(host) && isIP(host) === 0;
/** As PostgreSQL's listen_addresses takes it. */
const listenHost = z.string().refine(
  (text) =>
    text.split(",").map((each) => each.trim()).every((host) =>
      host === "*" || isIP(host) !== 0 || (/^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$/.test(host) && !isNoAddress(host))
    ),
  "must be names or addresses without port and brackets, like db1.example.com, 192.0.2.1, 2001:db8::1 or 0.0.0.0",
);
const milliseconds = (byDefault: number, atLeast: number) => z.number().int().min(atLeast).default(byDefault);

/** The keys of one [[table]] besides `match`; each may be left out, but not all of them. */
const tableKeys = {
  policy: z.enum(rowPolicies).optional(),
  deletes: z.enum(deletePolicies).optional(),
  unique: z.enum(uniquePolicies).optional(),
  dangling: z.enum(danglingPolicies).optional(),
  /** Columns whose values are masked wherever conflicts are listed. */
  secret: z.array(z.string().min(1)).optional(),
};
const tableKeyNames = Object.keys(tableKeys) as (keyof typeof tableKeys)[];

const schema = z.strictObject({
  node: z.strictObject({
    name: z.string().min(1),
    role: z.enum(["primary", "secondary"]),
    listen: address.default("0.0.0.0:8282"),
  }),
  peer: z.strictObject({ name: z.string().min(1), address }),
  postgres: z.strictObject({
    pgdata: z.string().optional(),
    bin_dir: z.string().optional(),
    port: z.number().int().min(1).max(65535).default(3456),
    listen: listenHost.optional(),
    dbname: z.string().min(1).default("app"),
    os_user: z.string().optional(),
    url: z.string().optional(),
    start_command: z.string().optional(),
    stop_command: z.string().optional(),
  }).refine((p) => p.pgdata || p.url, "needs pgdata (a cluster that the agent runs) or url (an existing server)")
    .refine(
      (p) => p.url || (p.start_command ?? p.stop_command) === undefined,
      "start_command and stop_command go with url: the agent itself starts and stops the cluster in pgdata",
    ),
  failover: z.strictObject({
    heartbeat_ms: milliseconds(500, 50),
    after_ms: milliseconds(3000, 200),
    peer_wait_ms: milliseconds(10_000, 0),
    fence_timeout_ms: milliseconds(2000, 0),
    /** So long contact must have held before a handback; more after several takeovers. */
    steady_ms: milliseconds(3000, 0),
    /** Less room than this on a disk of the database counts as a full disk; 0: nobody looks. */
    min_free_mb: z.number().int().min(0).default(64),
  }).refine((f) => f.after_ms >= 2 * f.heartbeat_ms, "after_ms must be at least twice heartbeat_ms").prefault({}),
  health: z.strictObject({ listen: address }).optional(),
  console: z.strictObject({ listen: address }).optional(),
  merge: z.strictObject({
    default: z.enum(rowPolicies).default(defaultPolicy.rows),
    deletes: z.enum(deletePolicies).default(defaultPolicy.deletes),
    unique: z.enum(uniquePolicies).default(defaultPolicy.unique),
    dangling: z.enum(danglingPolicies).default(defaultPolicy.dangling),
  }).prefault({}),
  table: z.array(
    z.strictObject({ match: z.string().min(1), ...tableKeys }).refine(
      (entry) => tableKeyNames.some((key) => entry[key] !== undefined),
      `needs at least one of ${tableKeyNames.join(", ")}`,
    ),
  ).default([]),
  primary_only: z.array(
    z.strictObject({
      table: z.string().min(1),
      columns: z.array(z.string().min(1)).min(1).optional(),
      operations: z.array(z.enum(["insert", "update", "delete", "truncate"])).min(1),
      message: z.string().regex(/^(?!\s)\P{Cc}+(?<!\s)$/u, "must be one line, with no space around it").refine(
        (text) => !/on the primary server only/i.test(text),
        `must say only what it is, e.g. "password reset": " is available on the primary server only" is added`,
      ),
    }).refine(
      ({ columns, operations }) => !columns || operations.every((operation) => operation === "update"),
      'columns goes with operations = ["update"] only: make an entry of its own for the other operations',
    ),
  ).default([]),
  hooks: z.strictObject({
    on_role_change: z.string().refine(isAbsolute, "must be the full path of a script").optional(),
  }).prefault({}),
  alerts: z.strictObject({
    smtp: z.string().optional(),
    to: z.array(z.string()).default([]),
    webhook: z.string().optional(),
  }).prefault({}),
});

/** agent.toml with its defaults filled in; durations in milliseconds, addresses as `host:port`. */
export type Config = z.infer<typeof schema>;
/** One [[table]] of agent.toml. */
export type TableEntry = Config["table"][number];
/** One [[primary_only]] of agent.toml. */
export type PrimaryOnlyEntry = Config["primary_only"][number];

/** Where in agent.toml something is wrong; an entry of many by its number and what it is about. */
function placeOf(document: unknown, path: readonly PropertyKey[]): string {
  const [section, index, ...rest] = path;
  if (section === undefined) return "the document";
  if (typeof index !== "number" || (section !== "table" && section !== "primary_only")) return path.join(".");
  const entry = (document as Record<string, Record<string, unknown>[]>)[section][index];
  const key = section === "table" ? "match" : "table";
  const about = typeof entry?.[key] === "string" ? ` (${key} = "${entry[key]}")` : "";
  return [`[[${section}]] ${index + 1}${about}`, ...rest.length > 0 ? [rest.join(".")] : []].join(": ");
}

/** Checks a parsed document. `origin` is named in the error. Throws UsageError. */
export function checkConfig(document: unknown, origin: string): Config {
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = placeOf(document, issue.path);
  throw new UsageError(
    `Cannot use ${origin}: ${where}: ${issue.message}`,
    `correct ${where} in ${origin}; the README lists every key`,
  );
}

/** Parses the text of agent.toml. Throws UsageError with the line where it is malformed. */
export function parseConfig(text: string, origin: string): Config {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw new UsageError(
      `Cannot read ${origin}: line ${error.line}: ${error.message.split("\n")[0]}`,
      `correct line ${error.line}`,
    );
  }
  return checkConfig(document, origin);
}

/** Reads agent.toml. Throws UsageError where it is missing, unreadable or malformed. */
export function readConfig(path: string): Config {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new UsageError(
      `Cannot read ${path}: ${reason(error)}`,
      "run agent setup primary or agent setup secondary first, or name the right folder with --home",
    );
  }
  return parseConfig(text, path);
}

/** Splits `host:port` or `[v6]:port`. */
export function splitAddress(text: string): { host: string; port: number } {
  const at = text.lastIndexOf(":");
  return { host: text.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(text.slice(at + 1)) };
}
