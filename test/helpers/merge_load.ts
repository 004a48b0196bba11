// Tables under several policies, and what both sides write to them in a split: thousands of rows, every kind of conflict
// among them, each value unique to its write. Rounds write to rows of their own, so that each is as the one before.
import type { Sql } from "../../agent/postgres/connect.ts";
import type { Ledger } from "./ledger.ts";
import type { Role } from "./pair_node.ts";

/** Rows of a table and round. */
const rows = 600;
/** Transactions a side and statement: the merge is in the middle of something most of the time. */
const chunks = 6;

export const mergeTables = `
  CREATE TABLE doc (id int PRIMARY KEY, v text);
  CREATE TABLE merged (id int PRIMARY KEY, a text, b text, c text);
  CREATE TABLE uniq (id int PRIMARY KEY, code text UNIQUE, v text);
  CREATE TABLE parent (id int PRIMARY KEY, v text);
  CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent, v text);
  CREATE TABLE ward (id int PRIMARY KEY, parent_id int REFERENCES parent, v text);
  CREATE TABLE bag (id int, v text);
  CREATE TABLE audit (id serial PRIMARY KEY, v text);
`;

export const mergePolicies = `
[[table]]
match = "public.merged"
policy = "merge_columns"

[[table]]
match = "public.audit"
policy = "append_only"

[[table]]
match = "public.ward"
dangling = "restore_parent"
`;

/** The rows of a round, which both sides must have seen before it is written. */
export async function prepareRound(app: Sql, round: number): Promise<void> {
  const numbers = `generate_series(${round * 2000 + 1}, ${round * 2000 + rows}) n`;
  await app.unsafe(`
    INSERT INTO doc SELECT n, 'old' FROM ${numbers};
    INSERT INTO merged SELECT n, 'a', 'b', 'c' FROM ${numbers};
    INSERT INTO uniq SELECT n, 'old.' || n, 'old' FROM ${numbers};
    INSERT INTO parent SELECT n, 'old' FROM ${numbers};
    INSERT INTO bag SELECT n, 'old.' || n FROM ${numbers};
  `).simple();
}

/** A statement that answers place and value; value null: deleted. Of `tag` and the row's number values are made. */
type Statement = [table: string, sql: string];

const answer = (place: string, value: string) => `RETURNING ${place} AS place, ${value} AS value`;

const ofBoth = (part: string, tag: string): Statement[] => [
  ["doc", `UPDATE doc SET v = '${tag}.' || id WHERE id % 3 = 0 AND ${part} ${answer("id", "v")}`],
  ["bag", `UPDATE bag SET v = '${tag}.' || id WHERE id % 2 = 0 AND ${part} ${answer("id", "v")}`],
  ["uniq", `UPDATE uniq SET v = '${tag}.' || id WHERE id % 7 = 0 AND ${part} ${answer("id", "v")}`],
  [
    "doc",
    `INSERT INTO doc SELECT id + 1000, '${tag}i.' || id FROM parent WHERE id % 10 = 3 AND ${part}
    ON CONFLICT DO NOTHING ${answer("id", "v")}`,
  ],
  [
    "audit",
    `INSERT INTO audit SELECT id + 1000000, '${tag}.' || id FROM parent WHERE id % 10 = 4 AND ${part}
    ${answer("v", "v")}`,
  ],
];

const deleteParents = (remainder: number, part: string): Statement => [
  "parent",
  `DELETE FROM parent WHERE id % 10 = ${remainder} AND ${part} ${answer("id", "NULL")}`,
];

const addChildren = (table: string, remainder: number, part: string, tag: string): Statement => [
  table,
  `INSERT INTO ${table} SELECT id, id, '${tag}c.' || id FROM parent WHERE id % 10 = ${remainder} AND ${part}
    ${answer("id", "v")}`,
];

const ofPrimary = (part: string, tag: string, round: number): Statement[] => [
  ...ofBoth(part, tag),
  ["doc", `DELETE FROM doc WHERE id % 20 = 6 AND ${part} ${answer("id", "NULL")}`],
  ["merged", `UPDATE merged SET a = '${tag}a.' || id WHERE id % 2 = 0 AND ${part} ${answer("id || ' a'", "a")}`],
  [
    "uniq",
    `UPDATE uniq SET code = 'u${round}.' || id, v = '${tag}u.' || id WHERE id % 10 = 1 AND ${part}
    ${answer("id", "v")}`,
  ],
  deleteParents(1, part),
  addChildren("child", 2, part, tag),
  deleteParents(5, part),
  addChildren("ward", 6, part, tag),
];

const ofSecondary = (part: string, tag: string, round: number): Statement[] => [
  ...ofBoth(part, tag),
  ["doc", `DELETE FROM doc WHERE id % 20 = 9 AND ${part} ${answer("id", "NULL")}`],
  ["merged", `UPDATE merged SET b = '${tag}b.' || id WHERE id % 4 = 0 AND ${part} ${answer("id || ' b'", "b")}`],
  ["merged", `UPDATE merged SET a = '${tag}a.' || id WHERE id % 6 = 0 AND ${part} ${answer("id || ' a'", "a")}`],
  // The value that the primary gives to the row before.
  [
    "uniq",
    `UPDATE uniq SET code = 'u${round}.' || (id - 1), v = '${tag}u.' || id WHERE id % 10 = 2 AND ${part}
    ${answer("id", "v")}`,
  ],
  addChildren("child", 1, part, tag),
  deleteParents(2, part),
  addChildren("ward", 5, part, tag),
  deleteParents(6, part),
];

/** Writes one round on both sides, in turns. */
export async function writeRound(apps: Record<Role, Sql>, ledger: Ledger, round: number): Promise<void> {
  for (let chunk = 0; chunk < chunks; chunk++) {
    const from = round * 2000 + chunk * rows / chunks;
    const part = `id > ${from} AND id <= ${from + rows / chunks}`;
    const work = { primary: ofPrimary(part, `p${round}`, round), secondary: ofSecondary(part, `s${round}`, round) };
    for (let n = 0; n < Math.max(work.primary.length, work.secondary.length); n++) {
      for (const who of ["primary", "secondary"] as const) {
        const [table, sql] = work[who][n] ?? [];
        if (table === undefined) continue;
        const written = await apps[who].unsafe<{ place: string; value: string | null }[]>(sql!);
        for (const { place, value } of written) {
          if (value === null) ledger.ended(who, `public.${table}`, String(place));
          else ledger.wrote(who, `public.${table}`, String(place), value);
        }
      }
    }
  }
}
