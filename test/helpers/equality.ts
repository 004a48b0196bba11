// Compares two servers table by table: every user table of every schema, by count and by a hash of all rows.
// Reads only. The failure message shows the first rows that differ.
import assert from "node:assert/strict";
import type { Sql } from "../../agent/postgres/connect.ts";
import { waitFor } from "./wait.ts";

export interface TableSum {
  rows: number;
  /** Sum of the hashes of all rows' text: the same whatever their order, and sensitive to duplicates. */
  hash: string;
}

/**
 * All ordinary tables that replicate (leaf partitions, not their parents), as `"schema"."table"`; not those in the schemas of
 * what replicates them.
 */
export async function userTables(sql: Sql, own: string[] = ["ha"]): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`
    SELECT format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p'
      AND n.nspname <> ALL (${["pg_catalog", "information_schema", "pg_toast", ...own]})
    ORDER BY n.nspname, c.relname`;
  return rows.map((row) => row.name);
}

export async function sumTable(sql: Sql, table: string): Promise<TableSum> {
  const [row] = await sql.unsafe<{ rows: string; hash: string | null }[]>(
    `SELECT count(*)::text AS rows, sum(hashtextextended(t::text, 0)::numeric)::text AS hash FROM ${table} t`,
  );
  return { rows: Number(row.rows), hash: row.hash ?? "0" };
}

const names = ["primary", "secondary"];

/** What two servers differ in, as text; empty where they are equal. */
export async function differences(a: Sql, b: Sql, own?: string[]): Promise<string[]> {
  const [inA, inB] = await Promise.all([userTables(a, own), userTables(b, own)]);
  const found = [
    ...inA.filter((table) => !inB.includes(table)).map((table) => `${table} is on the ${names[0]} only`),
    ...inB.filter((table) => !inA.includes(table)).map((table) => `${table} is on the ${names[1]} only`),
  ];
  for (const table of inA.filter((each) => inB.includes(each))) {
    const [sumA, sumB] = await Promise.all([sumTable(a, table), sumTable(b, table)]);
    if (sumA.rows === sumB.rows && sumA.hash === sumB.hash) continue;
    found.push(
      `${table}: ${sumA.rows} rows on the ${names[0]}, ${sumB.rows} on the ${names[1]}` +
        await describeRows(a, b, table),
    );
  }
  return found;
}

async function describeRows(a: Sql, b: Sql, table: string): Promise<string> {
  const query = `SELECT t::text AS row FROM ${table} t ORDER BY 1 LIMIT 200000`;
  const [rowsA, rowsB] = await Promise.all([a.unsafe<{ row: string }[]>(query), b.unsafe<{ row: string }[]>(query)]);
  const counts = new Map<string, number>();
  for (const { row } of rowsA) counts.set(row, (counts.get(row) ?? 0) + 1);
  for (const { row } of rowsB) counts.set(row, (counts.get(row) ?? 0) - 1);
  const show = (name: string, sign: number) => {
    const rows = [...counts].filter(([, count]) => count * sign > 0).map(([row]) => row);
    return rows.length ? `\n  only on the ${name} (${rows.length}):` + rows.slice(0, 3).map(shorten).join("") : "";
  };
  return show(names[0], 1) + show(names[1], -1);
}

function shorten(row: string): string {
  return `\n    ${row.length > 300 ? row.slice(0, 300) + `... (${row.length} characters)` : row}`;
}

/** Throws with the differences, if there are any. */
export async function assertEqual(a: Sql, b: Sql, own?: string[]): Promise<void> {
  const found = await differences(a, b, own);
  assert.ok(found.length === 0, `Both sides must be equal, but:\n${found.join("\n")}`);
}

/** Waits until both are equal (and stay so at a second look). The last differences are in the error. */
export async function waitEqual(a: Sql, b: Sql, deadlineMs = 30_000): Promise<void> {
  await waitFor(
    async () => {
      await assertEqual(a, b);
      await assertEqual(a, b);
      return true;
    },
    { what: "both sides to be equal", deadlineMs, everyMs: 250 },
  );
}
