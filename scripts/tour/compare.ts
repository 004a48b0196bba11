// Compares two servers: every table of the application and the conflict log, every row. Reads only.
import type { Sql } from "../../agent/postgres/connect.ts";

export interface Compared {
  readonly table: string;
  readonly rows: [string, string];
  readonly hash: [string, string];
}

async function tablesOf(sql: Sql): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'ha')
    ORDER BY 1`;
  return [...rows.map(({ name }) => name), "ha.conflict"];
}

/** Number of rows, and a hash over all of them in a fixed order. */
async function digest(sql: Sql, table: string): Promise<[string, string]> {
  const [row] = await sql.unsafe<{ rows: string; hash: string }[]>(
    `SELECT count(*)::text AS rows, md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C"), '')) AS hash
     FROM ${table} t`,
  );
  return [row.rows, row.hash];
}

/** Every table of either side. A table that one side lacks is an error of PostgreSQL's. */
export async function compare(a: Sql, b: Sql): Promise<Compared[]> {
  const tables = [...new Set([...await tablesOf(a), ...await tablesOf(b)])];
  const compared: Compared[] = [];
  for (const table of tables) {
    const [here, there] = await Promise.all([digest(a, table), digest(b, table)]);
    compared.push({ table, rows: [here[0], there[0]], hash: [here[1], there[1]] });
  }
  return compared;
}

export const isEqual = ({ rows, hash }: Compared): boolean => rows[0] === rows[1] && hash[0] === hash[1];

/** Rows that one side has and the other has not, as text: the first few of each. */
export async function differingRows(a: Sql, b: Sql, table: string): Promise<{ onlyA: string[]; onlyB: string[] }> {
  const query = `SELECT t::text AS row FROM ${table} t`;
  const [rowsA, rowsB] = await Promise.all([a, b].map((sql) => sql.unsafe<{ row: string }[]>(query)));
  const lacking = (rows: typeof rowsA, others: typeof rowsA) => {
    const known = new Set(others.map(({ row }) => row));
    return rows.filter(({ row }) => !known.has(row)).slice(0, 5).map(({ row }) => row);
  };
  return { onlyA: lacking(rowsA, rowsB), onlyB: lacking(rowsB, rowsA) };
}
