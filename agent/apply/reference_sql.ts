// The statements that look for rows whose parent is gone. Builds text only; names are quoted, values are always
// parameters or rows of a staging table. In all of it `t` is the child, `p` its parent, `s` a row touched.
import type { ForeignKey } from "../postgres/constraints.ts";
import { staged } from "./bulk.ts";
import { literal, type Plan, quote } from "./plan.ts";
import { type Image, type RowShape, selectRows, valueOf } from "./rows.ts";

/** How a batch touched a row: wrote it as it stands now, or took away a version that others may refer to. */
export type Touch = "written" | "gone";

/** Some rows of one table, as a sub-select `s` with the columns named. */
export interface Source {
  readonly columns: readonly string[];
  readonly select: (columns: readonly string[]) => string;
  readonly parameters: readonly string[];
}

/** Images given as the JSON text `$1`; the columns that all of them have. */
export function imagesAs(shape: RowShape, images: readonly Image[]): Source {
  const columns = shape.columns.filter((c) => images.every((image) => c.name in image));
  return {
    columns: columns.map((c) => c.name),
    select: (wanted) => {
      const list = columns.filter((c) => wanted.includes(c.name))
        .map((c) => `${valueOf(c, "g.item")} AS ${quote(c.name)}`);
      return `(SELECT ${list.join(", ")} FROM jsonb_array_elements($1::text::jsonb) g(item)) s`;
    },
    parameters: [JSON.stringify(images)],
  };
}

/** The same of the rows that plan.stage names (ha_n < 0). */
export function stageAs(plan: Plan): Source {
  const columns = plan.wholeRow ? plan.columns : plan.keys;
  return {
    columns: columns.map((c) => c.name),
    select: (wanted) => {
      const list = columns.filter((c) => wanted.includes(c.name)).map((c) => `${staged(c)} AS ${c.quoted}`);
      return `(SELECT ${list.join(", ")} FROM ${plan.stage} s WHERE s.ha_n < 0) s`;
    },
    parameters: [],
  };
}

/**
 * The children without a parent, as rowHere takes them, and `place` and `parent_key` of each; locked. Looked at are those
 * that the source, rows of the table `touched`, has to do with; without a source, or where it cannot tell, all. Of rows
 * written, the parents that are there are held until the transaction ends, as a foreign key does.
 */
export function selectDangling(
  foreignKey: ForeignKey,
  shapes: { readonly child: RowShape; readonly parent: RowShape; readonly touched: RowShape },
  touch: Touch,
  source: Source | null,
  most: number | null,
): { readonly text: string; readonly parameters: string[] } {
  const { child, parent, touched } = shapes;
  const { childColumns, parentColumns, period } = foreignKey;
  const among = source && (touch === "gone" ? parentColumns : keyOf(foreignKey, touched));
  const told = among !== null && among.every((name) => source!.columns.includes(name));
  // A child that has a NULL in its foreign key refers to nothing (MATCH FULL has no other kind of NULL either).
  const where = childColumns.map((name) => `t.${quote(name)} IS NOT NULL`);
  const alone = (row: "t" | "s") => `${isThere(foreignKey, parent, touch === "written", row)} IS NOT TRUE`;
  if (told) {
    const conditions = touch === "gone"
      ? [refersTo(foreignKey, "s", "t"), ...(period ? [] : [alone("s")])]
      : among.map((name) => `s.${quote(name)} = t.${quote(name)}`);
    where.push(`EXISTS (SELECT FROM ${source!.select(among)} WHERE ${conditions.join(" AND ")})`);
  }
  // Of parents gone, those that are back are sorted out before their children are looked at.
  if (!told || touch === "written" || period) where.push(alone("t"));
  const values = childColumns.map((name) => `t.${quote(name)}::text`).join(", ");
  const key = `jsonb_object(ARRAY[${parentColumns.map(literal).join(", ")}]::text[], ARRAY[${values}]::text[])`;
  return {
    text: selectRows(child).replace("SELECT ", () => `SELECT t.ctid::text AS place, ${key} AS parent_key, `) +
      `WHERE ${where.join(" AND ")} ${most === null ? "" : `LIMIT ${most} `}FOR UPDATE OF t`,
    parameters: told ? [...source!.parameters] : [],
  };
}

/** What finds the rows written. Of those without a key, all that have the same parent stand or fall together. */
const keyOf = (foreignKey: ForeignKey, touched: RowShape): readonly string[] =>
  touched.wholeRow ? foreignKey.childColumns : touched.keys.map((c) => c.name);

/** The row `from`, or one like its parent, refers to the row `to`; by a PERIOD: to this one among others. */
function refersTo(foreignKey: ForeignKey, to: "p" | "s", from: "t" | "s"): string {
  const { childColumns, parentColumns, operators, collations, period } = foreignKey;
  return parentColumns.map((name, i) => {
    const operator = period && i === parentColumns.length - 1 ? "OPERATOR(pg_catalog.&&)" : operators[i];
    const collation = collations[i] ? ` COLLATE ${collations[i]}` : "";
    return `${to}.${quote(name)} ${operator} ${from}.${quote(from === "t" ? childColumns[i] : name)}${collation}`;
  }).join(" AND ");
}

/**
 * A question for each row: every parent has an index for it. As a join it would be planned for hardly any row without a
 * parent, and take hours where there are many. Waits for a parent that is being deleted, if it is to hold it.
 */
function isThere(foreignKey: ForeignKey, parent: RowShape, hold: boolean, row: "t" | "s"): string {
  const from = `FROM ${foreignKey.parentPartitioned ? "" : "ONLY "}${parent.target} p`;
  const parents = `${from} WHERE ${refersTo(foreignKey, "p", row)}${hold ? " FOR KEY SHARE" : ""}`;
  if (!foreignKey.period) return `EXISTS (SELECT ${parents})`;
  const [covering, covered] = [foreignKey.parentColumns.at(-1)!, foreignKey.childColumns.at(-1)!].map(quote);
  return `((SELECT range_agg(x.period) FROM (SELECT p.${covering} AS period ${parents}) x) @> t.${covered})`;
}
