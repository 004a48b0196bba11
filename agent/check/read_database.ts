// Looks at a node's database for `agent check`. Reads only; needs no schema ha, so that a server can be looked at before
// setup has been there. Never waits long: whoever asks has a deadline.
import { createHash } from "node:crypto";
import type { ComparedDatabase, RoleFacts } from "../check_report.ts";
import { readCollations } from "../postgres/collations.ts";
import { connectionError, openPool, type Sql, type Target } from "../postgres/connect.ts";
import { withDeadline } from "../postgres/deadline.ts";
import { readSequences, type SequenceState } from "../postgres/sequences.ts";
import { readSettings } from "../postgres/settings.ts";
import { AgentError } from "../errors.ts";
import type { DatabaseFacts, Problem, RiskySettings } from "./facts.ts";

const statementMs = 10_000;
const lookMs = 20_000;
/** A longer description of a role is cut before it is sent: the peer takes 2000. */
const mostAttributes = 1900;
/** So much of a list is enough for a person. */
const mostNames = 10_000;

/** Opens a pool of its own, looks, and closes it. What stands in the way is a fact as well. */
export async function readDatabase(target: Target): Promise<DatabaseFacts | Problem> {
  const sql = openPool(target, { purpose: "check", max: 1, settings: { statement_timeout: String(statementMs) } });
  try {
    return await withDeadline(read(sql), lookMs, "look at the database");
  } catch (error) {
    const known = connectionError(error, target);
    return known instanceof AgentError
      ? { problem: known.message, remedy: known.remedy }
      : { problem: `Cannot look at the database: ${known.message}`, remedy: "see the log of PostgreSQL" };
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function read(sql: Sql): Promise<DatabaseFacts> {
  const settings = await readSettings(sql);
  const [{ schema }] = await sql<{ schema: boolean }[]>`SELECT to_regclass('ha.sequence_state') IS NOT NULL AS schema`;
  const [{ writable }] = schema
    ? await sql<{ writable: boolean }[]>`SELECT ha.guard_is_open() AS writable`
    : [{ writable: true }];
  const sequences = schema ? await readSequences(sql) : [];
  const [{ count }] = await sql<{ count: number }[]>`SELECT count(*)::int AS count FROM pg_largeobject_metadata`;
  return {
    settings,
    risky: await readRisky(sql),
    hasSchema: schema,
    ...await readTables(sql),
    largeObjects: count,
    sequences: sequences.map((each) => ({ ...each, held: false })),
    misplaced: writable ? sequences.filter(({ fits, tooLarge }) => !fits && !tooLarge).map(({ label }) => label) : [],
    compared: await readCompared(sql, sequences, settings.superuser),
  };
}

async function readRisky(sql: Sql): Promise<RiskySettings> {
  const rows = await sql<{ name: string; setting: string }[]>`SELECT name, setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'max_slot_wal_keep_size', 'idle_replication_slot_timeout')`;
  const of = (name: string) => rows.find((row) => row.name === name)?.setting;
  const idle = of("idle_replication_slot_timeout");
  return {
    fsync: of("fsync")!,
    fullPageWrites: of("full_page_writes")!,
    maxSlotWalKeepSize: Number(of("max_slot_wal_keep_size")),
    idleReplicationSlotTimeout: idle === undefined ? null : Number(idle),
  };
}

async function readTables(sql: Sql): Promise<{ withoutKey: string[]; unlogged: string[] }> {
  const rows = await sql<{ name: string; unlogged: boolean; keyed: boolean }[]>`
    SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relpersistence = 'u' AS unlogged,
      c.relreplident = 'i' OR EXISTS (SELECT FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS keyed
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('ha', 'pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
    ORDER BY 1`;
  return {
    withoutKey: rows.filter((row) => !row.unlogged && !row.keyed).map((row) => row.name),
    unlogged: rows.filter((row) => row.unlogged).map((row) => row.name),
  };
}

async function readCompared(sql: Sql, sequences: SequenceState[], superuser: boolean): Promise<ComparedDatabase> {
  const [server] = await sql<{ version: string; num: number; encoding: string }[]>`
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS num,
      current_setting('server_encoding') AS encoding`;
  const collations = await readCollations(sql);
  return {
    version: server.version.split(" ")[0],
    major: Math.trunc(server.num / 10_000),
    encoding: server.encoding,
    roles: await readRoles(sql, superuser),
    collations: collations.map((each) => ({ ...each, indexes: each.indexes.slice(0, mostNames) })),
    sequences: sequences.map(({ label, increment, min, max, cycle }) => ({ label, increment, min, max, cycle })),
  };
}

async function readRoles(sql: Sql, superuser: boolean): Promise<RoleFacts[]> {
  const rows = await sql<Omit<RoleFacts, "password">[]>`
    SELECT r.rolname::text AS name, r.rolcanlogin AS login, concat_ws(', ',
      CASE WHEN r.rolsuper THEN 'superuser' END, CASE WHEN r.rolcanlogin THEN 'login' END,
      CASE WHEN r.rolcreatedb THEN 'createdb' END, CASE WHEN r.rolcreaterole THEN 'createrole' END,
      CASE WHEN r.rolreplication THEN 'replication' END, CASE WHEN r.rolbypassrls THEN 'bypassrls' END,
      CASE WHEN NOT r.rolinherit THEN 'noinherit' END,
      CASE WHEN r.rolconnlimit >= 0 THEN 'connection limit ' || r.rolconnlimit END,
      (SELECT 'member of ' || string_agg(DISTINCT g.rolname, ' and ' ORDER BY g.rolname) FROM pg_auth_members m
        JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid)) AS attributes
    FROM pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1 LIMIT ${mostNames}`;
  const verifiers = superuser
    ? await sql<{ name: string; verifier: string | null }[]>`SELECT rolname::text AS name, rolpassword AS verifier
        FROM pg_authid`
    : [];
  const known = new Map(verifiers.map(({ name, verifier }) => [name, verifier === null ? null : short(verifier)]));
  return rows.map((row) => ({
    ...row,
    attributes: fitting(row.attributes),
    password: known.get(row.name) ?? null,
  }));
}

/** Cut to what the peer takes. Two that differ anywhere differ after it too: what is cut ends in a hash of the whole. */
export function fitting(attributes: string): string {
  if (attributes.length <= mostAttributes) return attributes;
  const hash = createHash("sha256").update(attributes).digest("hex").slice(0, 16);
  return `${attributes.slice(0, mostAttributes)}... (whole: ${hash})`;
}

/** Too short to be of use to anybody, long enough to tell two verifiers apart. */
function short(verifier: string): string {
  return createHash("sha256").update(verifier).digest("hex").slice(0, 8);
}
