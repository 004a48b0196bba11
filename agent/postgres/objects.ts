// Sees to it that every user table can be replicated, is guarded and keeps to its policy and to what is for the
// primary only: triggers, replica identity, publication.
// Idempotent, and takes no locks where nothing is to be done; schema ha must be there (migrations.ts).
import { publicationName } from "../change/marks.ts";
import type { Sql } from "./connect.ts";
import { type LockPatience, type Transaction, withLock } from "./locks.ts";

/** Names of the tables that were changed, as `schema.table`, quoted where needed. */
export async function ensureTables(sql: Sql, patience: LockPatience = {}): Promise<string[]> {
  const due = await sql<{ relation: string; name: string }[]>`
    SELECT relation::text, format('%I.%I', schema_name, table_name) AS name FROM ha.table_due
    ORDER BY schema_name, table_name`;
  // One transaction a table: the locks are strong, and nobody should wait for more than one of them.
  for (const { relation, name } of due) {
    await withLock(sql, `table ${name}`, (tx) => tx`SELECT ha.ensure_table(${relation}::oid)`, patience);
  }
  await ensurePublication(sql);
  return due.map(({ name }) => name);
}

/** The policy of rows of one table, as agent.toml comes to it. */
export interface RowsPolicy {
  readonly schema: string;
  readonly table: string;
  readonly rows: string;
}

/** Makes ha.policy say this and nothing else; true if it was changed. What follows from it is done by ensureTables. */
export async function ensurePolicies(sql: Sql, wanted: readonly RowsPolicy[]): Promise<boolean> {
  const textOf = ({ schema, table, rows }: RowsPolicy) => `${schema}\0${table}\0${rows}`;
  const present = await sql<RowsPolicy[]>`SELECT schema_name AS schema, table_name AS table, rows FROM ha.policy`;
  if (sameTexts(wanted.map(textOf), present.map(textOf))) return false;
  await replaceAll(sql, "ha.policy", async (tx) => {
    await tx`INSERT INTO ha.policy (schema_name, table_name, rows) SELECT * FROM unnest(
      ${wanted.map(({ schema }) => schema)}::text[], ${wanted.map(({ table }) => table)}::text[],
      ${wanted.map(({ rows }) => rows)}::text[])`;
  });
  return true;
}

/** One thing that is for the primary only: an operation on a table, or an update of one of its columns. */
export interface PrimaryOnlyRule {
  readonly schema: string;
  readonly table: string;
  /** Its place in agent.toml: of two rules the first one speaks. */
  readonly position: number;
  readonly operation: "insert" | "update" | "delete" | "truncate";
  /** Empty: any column. */
  readonly column: string;
  readonly message: string;
}

/** Makes ha.primary_only say this and nothing else; true if it was changed. ensureTables does what follows from it. */
export async function ensurePrimaryOnly(sql: Sql, wanted: readonly PrimaryOnlyRule[]): Promise<boolean> {
  const textOf = (rule: PrimaryOnlyRule) =>
    [rule.schema, rule.table, rule.position, rule.operation, rule.column, rule.message].join("\0");
  const present = await sql<PrimaryOnlyRule[]>`SELECT schema_name AS schema, table_name AS table, position, operation,
    column_name AS column, message FROM ha.primary_only`;
  if (sameTexts(wanted.map(textOf), present.map(textOf))) return false;
  await replaceAll(sql, "ha.primary_only", async (tx) => {
    await tx`INSERT INTO ha.primary_only (schema_name, table_name, position, operation, column_name, message)
      SELECT * FROM unnest(${wanted.map(({ schema }) => schema)}::text[], ${wanted.map(({ table }) => table)}::text[],
        ${wanted.map(({ position }) => position)}::int[], ${wanted.map(({ operation }) => operation)}::text[],
        ${wanted.map(({ column }) => column)}::text[], ${wanted.map(({ message }) => message)}::text[])`;
  });
  return true;
}

function sameTexts(wanted: readonly string[], present: readonly string[]): boolean {
  const known = new Set(present);
  return wanted.length === present.length && wanted.every((text) => known.has(text));
}

/** Empties one of hapair's own tables and fills it anew, in one transaction that nobody else writes it in. */
async function replaceAll(sql: Sql, table: string, fill: (tx: Transaction) => Promise<void>): Promise<void> {
  await sql.begin(async (tx) => {
    await tx`SET LOCAL session_replication_role = replica`;
    await tx.unsafe(`LOCK TABLE ${table} IN SHARE ROW EXCLUSIVE MODE`);
    await tx.unsafe(`DELETE FROM ${table}`);
    await fill(tx);
  });
}

async function ensurePublication(sql: Sql): Promise<void> {
  await withLock(sql, `publication ${publicationName}`, async (tx) => {
    // Not via the root: each partition's changes come under its own name, as both nodes have the same partitions.
    // From 18 on an UPDATE in a table of REPLICA IDENTITY FULL is refused unless its generated columns are published: the
    // peer computes them itself and passes over what comes.
    const [{ version }] = await tx`SELECT current_setting('server_version_num')::int AS version`;
    const generated = version >= 180_000;
    const [there] = await tx<{ right: boolean }[]>`SELECT puballtables AND pubinsert AND pubupdate AND pubdelete
      AND pubtruncate AND NOT pubviaroot AND coalesce(to_jsonb(p)->>'pubgencols', 's') = 's' AS right
      FROM pg_publication p WHERE pubname = ${publicationName}`;
    if (there?.right) return;
    if (there) await tx.unsafe(`DROP PUBLICATION ${publicationName}`);
    await tx.unsafe(`CREATE PUBLICATION ${publicationName} FOR ALL TABLES
      WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false
        ${generated ? ", publish_generated_columns = stored" : ""})`);
  });
}
