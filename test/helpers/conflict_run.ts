// Runs conflict cases, all in one split of one pair, and reads what came of them. Each case has a schema of its own, so
// none can disturb another. Compares nothing by itself: see expectCase.
import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { errorCode, type Sql } from "../../agent/postgres/connect.ts";
import type { ConflictCase, ExpectedConflict } from "./conflict_case.ts";
import type { PairNode, Role } from "./pair_node.ts";

type Image = Record<string, string | null>;

/** An entry of ha.conflict. */
export interface Entry {
  id: string;
  kind: string;
  schema: string;
  table: string;
  key: Image;
  primaryRow: Image | null;
  secondaryRow: Image | null;
  policy: string;
  winner: string;
  why: string;
  quarantined: boolean;
  loggedBy: string;
}

/** What one side holds of a case. */
export interface Outcome {
  readonly rows: Readonly<Record<string, string[]>>;
  readonly conflicts: readonly Entry[];
}

/** Adds a [[table]] for each case to the node's agent.toml; what it leaves out is the default. */
export function writePolicies(node: PairNode, cases: readonly ConflictCase[]): void {
  const tables = cases.filter((each) => each.policy).map(({ id, policy }) => {
    const keys = Object.entries(policy!).map(([key, value]) => `${key} = "${value}"`);
    return `\n[[table]]\nmatch = "${id}.*"\n${keys.join("\n")}\n`;
  });
  appendFileSync(join(node.home, "conf", "agent.toml"), tables.join(""));
}

/** Runs `body` with a connection whose names without a schema are in that schema. */
async function within(sql: Sql, schema: string, body: (one: Sql) => Promise<unknown>): Promise<void> {
  const one = await sql.reserve();
  try {
    await one.unsafe(`SET search_path = ${schema}`);
    await body(one);
    await one.unsafe("RESET search_path");
  } finally {
    one.release();
  }
}

export async function setUpCases(sql: Sql, cases: readonly ConflictCase[]): Promise<void> {
  await sql.unsafe("CREATE TABLE last_of_all (id serial PRIMARY KEY)");
  for (const { id, setup } of cases) {
    await sql.unsafe(`CREATE SCHEMA ${id}`);
    await within(sql, id, (one) => one.unsafe(setup).simple());
  }
}

/** What both sides do in the split. Answers the cases whose steps went otherwise than written, and how. */
export async function runSplit(apps: Record<Role, Sql>, cases: readonly ConflictCase[]): Promise<Map<string, string>> {
  const failed = new Map<string, string>();
  for (const { id, split } of cases) {
    for (const { who, sql, refusedWith } of split) {
      await within(apps[who], id, async (one) => {
        const refusal = await one.unsafe(sql).simple().then(() => undefined, (error) => error);
        if (errorCode(refusal) === refusedWith && (refusal === undefined) === (refusedWith === undefined)) return;
        failed.set(id, `"${sql}" at the ${who} said ${refusal ?? "nothing"}`);
      });
    }
  }
  return failed;
}

export async function readLog(sql: Sql): Promise<Entry[]> {
  const rows = await sql<Entry[]>`
    SELECT id::text, kind, schema_name AS schema, table_name AS table, row_key AS key, primary_row AS "primaryRow",
      secondary_row AS "secondaryRow", policy, winner, why, quarantined, logged_by AS "loggedBy"
    FROM ha.conflict ORDER BY id`;
  return rows.map((row) => ({ ...row }));
}

/** What one side holds of each case, by its id. */
export async function readOutcomes(sql: Sql, cases: readonly ConflictCase[]): Promise<Map<string, Outcome>> {
  const log = await readLog(sql);
  const found = new Map<string, Outcome>();
  for (const { id, rows: wanted } of cases) {
    const rows: Record<string, string[]> = {};
    for (const from of Object.keys(wanted)) {
      const query = from.includes(" ") ? from : `SELECT t::text FROM ${from} t`;
      await within(sql, id, async (one) => {
        rows[from] = (await one.unsafe(query)).map((row) => String(Object.values(row)[0])).sort();
      });
    }
    found.set(id, { rows, conflicts: log.filter((entry) => entry.schema === id) });
  }
  return found;
}

/** Throws where one side does not hold what the case wants. */
export function expectCase(wanted: ConflictCase, found: Outcome, side: Role): void {
  const log = found.conflicts.map((entry) => `\n  ${brief(entry)}`).join("") || " (empty)";
  for (const [from, rows] of Object.entries(wanted.rows)) {
    assert.deepEqual(found.rows[from], [...rows].sort(), `${from} of ${wanted.id} on the ${side}; its log:${log}`);
  }
  const left = [...found.conflicts];
  for (const expected of wanted.conflicts) {
    const matching = left.filter((entry) => fits(entry, expected));
    assert.ok(matching.length > 0, `${wanted.id}: no entry is ${brief(expected)}; the log on the ${side} has:${log}`);
    for (const entry of expected.several ? matching : matching.slice(0, 1)) left.splice(left.indexOf(entry), 1);
  }
  assert.equal(left.length, 0, `${wanted.id}: on the ${side} there is more in the log than expected:${log}`);
}

function fits(entry: Entry, expected: ExpectedConflict): boolean {
  const imageFits = (image: Image | null, part: Readonly<Image> | null | undefined) => {
    if (part === undefined) return true;
    if (part === null || image === null) return part === image;
    return Object.entries(part).every(([column, value]) => image[column] === value);
  };
  return entry.kind === expected.kind && entry.winner === expected.winner &&
    entry.table === (expected.table ?? "t") && (expected.policy ?? entry.policy) === entry.policy &&
    entry.quarantined === (expected.quarantined ?? false) && imageFits(entry.key, expected.key) &&
    imageFits(entry.primaryRow, expected.primaryRow) && imageFits(entry.secondaryRow, expected.secondaryRow);
}

const brief = (value: unknown): string =>
  JSON.stringify(value, (_, part) => typeof part === "string" && part.length > 90 ? part.slice(0, 20) + "..." : part);

/**
 * Writes every row of every case's tables once more, without a change of values. Append-only tables are left alone. Last
 * comes a row whose arrival tells that all the others have arrived.
 */
export async function touchEverything(sql: Sql, cases: readonly ConflictCase[]): Promise<void> {
  const schemas = cases.filter(({ policy }) => policy?.policy !== "append_only").map(({ id }) => id);
  const tables = await sql<{ name: string; column: string }[]>`
    SELECT format('%I.%I', n.nspname, c.relname) AS name, quote_ident(min(a.attname)) AS column
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE n.nspname = ANY (${schemas}) AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    GROUP BY 1 ORDER BY 1`;
  for (const { name, column } of tables) await sql.unsafe(`UPDATE ${name} SET ${column} = ${column}`);
  await sql.unsafe("INSERT INTO last_of_all DEFAULT VALUES");
}
