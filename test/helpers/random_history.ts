// Random histories for two real servers: few rows, all kinds of writes on both sides, in transactions of one to three
// steps, over tables under different policies. Histories have rows of their own, so that many go side by side.
import fc from "fast-check";
import { errorCode, type Sql } from "../../agent/postgres/connect.ts";
import type { Ledger } from "./ledger.ts";
import type { Role } from "./pair_node.ts";

/** Tables of rows that nothing but their key keeps apart. */
export const plain = ["last", "primary_first", "by_time"] as const;
const children = ["child", "kin"] as const;
const tables = [...plain, "cols", "uniq", "parent", ...children, "bag", "log"] as const;
type Table = typeof tables[number];

export const historyTables = `
  ${plain.map((t) => `CREATE TABLE ${t} (id int PRIMARY KEY, v text);`).join("\n")}
  CREATE TABLE cols (id int PRIMARY KEY, a text, b text, c text);
  CREATE TABLE uniq (id int PRIMARY KEY, code text UNIQUE, v text);
  CREATE TABLE parent (id int PRIMARY KEY, v text);
  ${children.map((t) => `CREATE TABLE ${t} (id int PRIMARY KEY, parent_id int REFERENCES parent, v text);`).join("\n")}
  CREATE TABLE bag (id int, v text);
  CREATE TABLE log (id serial PRIMARY KEY, v text);
`;

const entry = (table: Table, keys: string) => `[[table]]\nmatch = "public.${table}"\n${keys}\n`;

export const historyPolicies = "\n" + [
  entry("primary_first", 'policy = "primary_wins"\ndeletes = "delete_wins"'),
  entry("by_time", 'policy = "secondary_wins"\ndeletes = "last_update_wins"'),
  entry("cols", 'policy = "merge_columns"'),
  entry("kin", 'dangling = "restore_parent"'),
  entry("log", 'policy = "append_only"'),
].join("\n");

/** Rows that dangle, or that stand against a rule: none may be left. */
export const broken = children.map((t) =>
  `SELECT '${t} ' || c.id || ' has no parent ' || c.parent_id AS what FROM ${t} c
   WHERE c.parent_id IS NOT NULL AND NOT EXISTS (SELECT FROM parent p WHERE p.id = c.parent_id)`
).join(" UNION ALL ");

interface Step {
  readonly table: Table;
  /** An update, and a move too, of a row that is not there is an insert. */
  readonly action: "update" | "delete" | "move" | "truncate";
  readonly key: number;
  readonly other: number;
}

/** A transaction of one side. */
export interface Write {
  readonly who: Role;
  readonly steps: readonly Step[];
}

/** Few tables at once, so that the two sides meet. */
const groups: readonly (readonly Table[])[] = [
  ["last"],
  ["primary_first", "bag"],
  ["by_time", "log"],
  ["cols"],
  ["uniq"],
  ["parent", "child"],
  ["parent", "kin"],
  ["parent", "child", "kin", "uniq"],
];

const stepOn = (group: readonly Table[]): fc.Arbitrary<Step> =>
  fc.record({
    table: fc.constantFrom(...group),
    action: fc.oneof(
      { weight: 240, arbitrary: fc.constant("update" as const) },
      { weight: 50, arbitrary: fc.constant("delete" as const) },
      { weight: 50, arbitrary: fc.constant("move" as const) },
      { weight: 1, arbitrary: fc.constant("truncate" as const) },
    ),
    key: fc.nat(3),
    other: fc.nat(4),
  });

/** What one history does between two cuts of the link. */
export const writes = (minLength: number, maxLength: number): fc.Arbitrary<readonly Write[]> =>
  fc.constantFrom(...groups).chain((group) =>
    fc.array(
      fc.record({
        who: fc.constantFrom("primary" as const, "secondary" as const),
        steps: fc.array(stepOn(group), { minLength: 1, maxLength: 3, size: "max" }),
      }),
      { minLength, maxLength, size: "max" },
    )
  );

/** What a step did, for the ledger: `value` null, deleted. */
interface Done {
  readonly table: Table;
  readonly place: string;
  readonly value: string | null;
  readonly upon: string | null;
}

let lastValue = 0;

/**
 * Runs one transaction of a history. What the server refuses (a key that is taken, a parent that is gone, a guard that is
 * closed) has not happened; of a lost connection nobody knows whether it has. Answers what was done.
 */
export async function runWrite(
  app: Sql,
  ledger: Ledger,
  history: number,
  { who, steps }: Write,
): Promise<readonly Done[] | null> {
  const done: Done[] = [];
  const note = (known: boolean) => {
    for (const { table, place, value, upon } of done) {
      if (value !== null && known) ledger.wrote(who, `public.${table}`, place, value, upon);
      else ledger.ended(who, `public.${table}`, place, upon);
    }
  };
  try {
    await app.begin(async (tx) => {
      for (const each of steps) done.push(...await runStep(tx as unknown as Sql, who, history * 100, each));
    });
  } catch (error) {
    const code = errorCode(error) ?? "";
    // A deadlock: after some in a row it is the application that gives way.
    if (/^(23|25006|40P01|42501|HA0)/.test(code)) return null;
    if (!/^(57|08|CONNECTION|ECONN)/.test(code)) throw error;
    note(false);
    return null;
  }
  note(true);
  return done;
}

async function runStep(tx: Sql, who: Role, base: number, { table, action, key, other }: Step): Promise<Done[]> {
  const id = base + key;
  const value = `${who[0]}${++lastValue}`;
  const to = base + other;
  if (table === "log") {
    // Half of them with a key of their own, which the other side may have given too.
    const named = other % 2 ? `(id, v) VALUES (${1_000_000 + id}, '${value}')` : `(v) VALUES ('${value}')`;
    await tx.unsafe(`INSERT INTO log ${named}`);
    return [{ table, place: value, value, upon: null }];
  }
  const columns = table === "cols" ? ["a", "b", "c"] : ["v"];
  if (action === "truncate") {
    if (table === "parent") return [];
    // Nothing may come in between what is seen and what is removed.
    await tx.unsafe(`LOCK TABLE ${table}`);
    const rows = await tx.unsafe(`SELECT * FROM ${table}`);
    await tx.unsafe(`TRUNCATE ${table}`);
    return rows.flatMap((row) =>
      columns.map((c): Done => ({ table, place: `${row.id} ${c}`, value: null, upon: row[c] }))
    );
  }
  const [row] = await tx.unsafe(`SELECT ctid::text AS place, * FROM ${table} WHERE id = ${id} LIMIT 1 FOR UPDATE`);
  if (!row) {
    if (action === "delete") return [];
    const more = table === "uniq" ? `'${base}.${other}', ` : isChild(table) ? `${parentOf(to)}, ` : "";
    const values = columns.map((c) => `'${value}${c}'`).join(", ");
    await tx.unsafe(`INSERT INTO ${table} VALUES (${id}, ${more}${values})`);
    return columns.map((c) => ({ table, place: `${id} ${c}`, value: `${value}${c}`, upon: null }));
  }
  const here = `WHERE ctid = '${row.place}'`;
  if (action === "delete") {
    await tx.unsafe(`DELETE FROM ${table} ${here}`);
    return columns.map((c) => ({ table, place: `${id} ${c}`, value: null, upon: row[c] }));
  }
  const column = columns[other % columns.length];
  const moved = action === "move" ? movement(table, base, other) : "";
  await tx.unsafe(`UPDATE ${table} SET ${moved}${column} = '${value}${column}' ${here}`);
  const place = moved.startsWith("id") ? to : id;
  return [{ table, place: `${place} ${column}`, value: `${value}${column}`, upon: row[column] }];
}

const isChild = (table: Table) => table === "child" || table === "kin";

/** The parent, or NULL if this side has none of that key. */
const parentOf = (id: number) => `(SELECT id FROM parent WHERE id = ${id})`;

/** Another key, another value of the unique column, another parent. */
function movement(table: Table, base: number, other: number): string {
  if (table === "uniq") return `code = '${base}.${other}', `;
  if (isChild(table)) return `parent_id = ${parentOf(base + other)}, `;
  return table === "cols" || table === "parent" ? "" : `id = ${base + other}, `;
}
