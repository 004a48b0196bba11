// Statements over many rows at once, each given as an image in a JSON array: for verdicts and conflicts by the thousand.
// Builds text only. `$1` is the JSON text of an array; names are quoted, values are always parameters.
import { literal, quote } from "./plan.ts";
import { matches, type RowShape, selectRows, valueOf } from "./rows.ts";

/** `given`: one row per element of `$1`, its position `n` (from 1), and its parts as jsonb. */
const given = (...parts: string[]): string =>
  `(SELECT g.n, ${parts.map((p) => `g.item->${literal(p)} AS ${quote(p)}`).join(", ")} ` +
  `FROM jsonb_array_elements($1::text::jsonb) WITH ORDINALITY AS g(item, n)) g`;

const matchKeys = (shape: RowShape): string => matches({ ...shape, wholeRow: false }, "g.key");

/** The rows of the keys in `$1` ([{key}]) as rowHere takes them, and `n`; locked. */
export function selectManyForUpdate(shape: RowShape): string {
  return `${selectRows(shape).replace("SELECT ", "SELECT g.n::int AS n, ")}, ${given("key")} ` +
    `WHERE ${matchKeys(shape)} FOR UPDATE OF t`;
}

/** Deletes the rows of the keys in `$1` ([{key}]). */
export function deleteMany(shape: RowShape): string {
  return `DELETE FROM ONLY ${shape.target} t USING ${given("key")} WHERE ${matchKeys(shape)}`;
}

/** Sets `columns` of the rows in `$1` ([{key, row}]); null if none of them can be set. */
export function updateMany(shape: RowShape, columns: readonly string[]): string | null {
  const set = shape.columns.filter((c) => c.settable && columns.includes(c.name));
  if (set.length === 0) return null;
  return `UPDATE ONLY ${shape.target} t SET ${
    set.map((c) => `${quote(c.name)} = ${valueOf(c, "g.row")}`).join(", ")
  } ` +
    `FROM ${given("key", "row")} WHERE ${matchKeys(shape)}`;
}

/** Inserts `columns` of the rows in `$1` ([{row}]). */
export function insertMany(shape: RowShape, columns: readonly string[]): string {
  const own = shape.columns.filter((c) => columns.includes(c.name));
  return `INSERT INTO ${shape.target} (${own.map((c) => quote(c.name)).join(", ")}) OVERRIDING SYSTEM VALUE ` +
    `SELECT ${own.map((c) => valueOf(c, "g.row")).join(", ")} FROM ${given("row")} ORDER BY g.n`;
}
