// Reads the conflict log, and notes in it what a person has looked at. Shows nothing by itself: what is secret is
// masked by who hands it on (masking.ts).
import { RefusedError } from "../errors.ts";
import type { Sql } from "../postgres/connect.ts";
import type { ConflictEntry } from "./entry.ts";

export interface ListOptions {
  readonly unreviewed: boolean;
  /** `schema.table`, or the table's name alone. */
  readonly table: string | null;
  readonly kind: string | null;
  readonly limit: number;
}

const time = (column: string) =>
  `to_char(c.${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS ${column}`;

const select = `SELECT c.id::float8 AS id, ${time("at")}, c.kind, c.schema_name AS schema, c.table_name AS "table",
  c.row_key AS key, c.winner, c.policy, c.why, c.logged_by, c.quarantined, ${time("reviewed_at")}, ${
  time("restored_at")
}, c.primary_row, c.secondary_row, ${time("primary_commit_at")}, ${time("secondary_commit_at")},
  c.primary_lsn::text AS primary_lsn, c.secondary_lsn::text AS secondary_lsn FROM ha.conflict c `;

/** The entries, newest first. */
export async function readConflicts(sql: Sql, options: ListOptions): Promise<ConflictEntry[]> {
  const { unreviewed, table, kind, limit } = options;
  const found = await sql.unsafe<ConflictEntry[]>(
    `${select} WHERE (NOT $1::boolean OR c.reviewed_at IS NULL)
      AND ($2::text IS NULL OR $2 IN (c.schema_name || '.' || c.table_name, c.table_name))
      AND ($3::text IS NULL OR c.kind = $3) ORDER BY c.at DESC, c.id DESC LIMIT $4::int`,
    [unreviewed, table, kind, limit],
  );
  return [...found];
}

/** One entry. `lock`: nobody else reviews or restores it until the transaction ends. Throws RefusedError without one. */
export async function readConflict(sql: Sql, id: number, { lock = false } = {}): Promise<ConflictEntry> {
  const [entry] = await sql.unsafe<ConflictEntry[]>(
    `${select} WHERE c.id = $1::int8 ${lock ? "FOR UPDATE" : ""}`,
    [id],
  );
  if (!entry) throw noSuch([id]);
  return entry;
}

/** Notes these entries as looked at; those that are stay as they are. Throws RefusedError if one of them is missing. */
export async function markReviewed(sql: Sql, ids: readonly number[]): Promise<number> {
  const wanted = [...new Set(ids)];
  // In one order: two who do the same do not wait for each other in a ring.
  const known = await sql.unsafe<{ id: number }[]>(
    "SELECT id::float8 AS id FROM ha.conflict WHERE id = ANY ($1::int8[]) ORDER BY id FOR UPDATE",
    [wanted.map(String)],
  );
  const missing = wanted.filter((id) => !known.some((entry) => entry.id === id));
  if (missing.length > 0) throw noSuch(missing);
  const { count } = await sql.unsafe(
    "UPDATE ha.conflict SET reviewed_at = now() WHERE id = ANY ($1::int8[]) AND reviewed_at IS NULL",
    [wanted.map(String)],
  );
  return count;
}

export async function markRestored(sql: Sql, id: number): Promise<void> {
  await sql.unsafe(
    "UPDATE ha.conflict SET reviewed_at = coalesce(reviewed_at, now()), restored_at = now() WHERE id = $1::int8",
    [id],
  );
}

function noSuch(ids: readonly number[]): RefusedError {
  return new RefusedError(
    `Cannot find conflict ${ids.join(", ")}: there is no such entry in the conflict log`,
    "agent conflicts list",
  );
}
