// Writes ha.conflict, verdicts and questions for verdicts, in the transaction of the batch that met the conflicts: a
// version is overruled only where both versions are on record. The images may hold secrets; they go into the database and
// nowhere else.
import { Buffer } from "node:buffer";
import { formatLsn, type Lsn } from "../change/lsn.ts";
import { askPrefix, verdictPrefix } from "../change/marks.ts";
import type { ConflictKind, Role } from "../merge/classify.ts";
import type { Sql } from "../postgres/connect.ts";
import { timeOfMicroseconds } from "../postgres/times.ts";
import type { Image } from "./rows.ts";

/** A row that a verdict is about, or is asked for. */
export interface RowId {
  readonly schema: string;
  readonly table: string;
  readonly key: Image;
  /** The row's name on both nodes (change/row_key.ts). */
  readonly name: string;
}

/** What the primary decided about one row, as it goes into the WAL. `row` null: there is no such row. */
export interface VerdictMessage extends RowId {
  readonly row: Image | null;
  /** The primary's own version stays: towards later changes of the secondary it counts as written now. */
  readonly renews: boolean;
  /** When the primary's part of a merged row was written (µs since 2000, as text). */
  readonly time?: string;
}

export interface ConflictEntry {
  readonly kind: ConflictKind;
  readonly schema: string;
  readonly table: string;
  readonly key: Image;
  readonly primaryRow: Image | null;
  readonly secondaryRow: Image | null;
  /** Microseconds since 2000-01-01 UTC. */
  readonly primaryTime: bigint | null;
  readonly secondaryTime: bigint | null;
  readonly primaryLsn: Lsn | null;
  readonly secondaryLsn: Lsn | null;
  readonly policy: string;
  readonly winner: Role | "both" | "none";
  readonly why: string;
  readonly loggedBy: Role;
  /** The losing row stands in no table any more. */
  readonly quarantined: boolean;
}

/** No message and no statement carries more rows. */
const mostRows = 500;

function* chunksOf<T>(all: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < all.length; at += mostRows) yield all.slice(at, at + mostRows);
}

export async function logConflicts(sql: Sql, entries: readonly ConflictEntry[]): Promise<void> {
  for (const chunk of chunksOf(entries)) {
    const rows = chunk.map((entry) => ({
      ...entry,
      primaryTime: entry.primaryTime?.toString() ?? null,
      secondaryTime: entry.secondaryTime?.toString() ?? null,
      primaryLsn: entry.primaryLsn === null ? null : formatLsn(entry.primaryLsn),
      secondaryLsn: entry.secondaryLsn === null ? null : formatLsn(entry.secondaryLsn),
    }));
    await sql.unsafe(
      `INSERT INTO ha.conflict (kind, schema_name, table_name, row_key, primary_row, secondary_row, ` +
        `primary_commit_at, secondary_commit_at, primary_lsn, secondary_lsn, policy, winner, why, logged_by, quarantined) ` +
        `SELECT e.kind, e.schema, e."table", e.key, nullif(e."primaryRow", 'null'), nullif(e."secondaryRow", 'null'), ` +
        `${timeOfMicroseconds('e."primaryTime"')}, ${
          timeOfMicroseconds('e."secondaryTime"')
        }, e."primaryLsn", e."secondaryLsn", ` +
        `e.policy, e.winner, e.why, e."loggedBy", e.quarantined ` +
        `FROM jsonb_to_recordset($1::text::jsonb) AS e(kind text, schema text, "table" text, key jsonb, ` +
        `"primaryRow" jsonb, "secondaryRow" jsonb, "primaryTime" bigint, "secondaryTime" bigint, "primaryLsn" pg_lsn, ` +
        `"secondaryLsn" pg_lsn, policy text, winner text, why text, "loggedBy" text, quarantined boolean)`,
      [JSON.stringify(rows)],
      { prepare: true },
    );
  }
}

/** A row that the secondary could not apply a change of, or a verdict about: then `renews` and `time` are the verdict's. */
export type RowQuestion = RowId & Pick<VerdictMessage, "renews" | "time">;

export const sendVerdicts = (sql: Sql, verdicts: readonly VerdictMessage[]): Promise<void> =>
  send(sql, verdictPrefix, verdicts);

/** The secondary could not apply what the primary wrote to these rows. */
export const askForVerdicts = (sql: Sql, rows: readonly RowQuestion[]): Promise<void> => send(sql, askPrefix, rows);

async function send(sql: Sql, prefix: string, items: readonly RowId[]): Promise<void> {
  for (const chunk of chunksOf(items)) {
    // As bytes: the database's encoding may not have every character of the text.
    const content = Buffer.from(JSON.stringify(chunk));
    await sql.unsafe(`SELECT pg_logical_emit_message(true, '${prefix}', $1::bytea)`, [content], { prepare: true });
  }
}

export function parseVerdicts(content: string): VerdictMessage[] {
  return JSON.parse(content);
}

export function parseQuestions(content: string): RowQuestion[] {
  return JSON.parse(content);
}
