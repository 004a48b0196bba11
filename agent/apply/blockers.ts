// The rows that a row cannot stand beside, by the unique indexes and exclusion constraints of its table. Finds and locks
// them; what becomes of them is decided elsewhere.
import type { Sql } from "../postgres/connect.ts";
import type { UniqueRule } from "../postgres/constraints.ts";
import { quote } from "./plan.ts";
import { type Image, matches, type RowHere, rowHere, type RowShape, selectRows, valueOf } from "./rows.ts";

export interface Blocker {
  readonly row: RowHere;
  /** The rules that do not allow both rows. */
  readonly rules: readonly UniqueRule[];
}

/**
 * The rows of the table, locked FOR UPDATE, that a row with this whole image cannot stand beside. Not among them: the
 * row of `except` (by key; of a table without a key, one row of these values). Without `except`, the row with the
 * image's own key is left out, unless the rule is the primary key: then it is what stands in the way of an insert.
 */
export async function findBlockers(
  sql: Sql,
  shape: RowShape,
  rules: readonly UniqueRule[],
  image: Image,
  peerOrigin: string,
  except?: Image,
): Promise<Blocker[]> {
  const found = new Map<string, { row: RowHere; rules: UniqueRule[] }>();
  for (const rule of rules) {
    const others = except || !(rule.primary || shape.wholeRow) ? ` AND (${matches(shape, "$2")}) IS NOT TRUE` : "";
    const rows = await sql.unsafe(
      `${selectRows(shape)}WHERE ${standsAgainst(shape, rule, "$1")}${others} FOR UPDATE OF t`,
      others ? [image, except ?? image] : [image],
      { prepare: true },
    );
    for (const result of rows) {
      const row = rowHere(shape, result, peerOrigin);
      const id = JSON.stringify(row.image);
      const known = found.get(id);
      if (known) known.rules.push(rule);
      else found.set(id, { row, rules: [rule] });
    }
  }
  return [...found.values()];
}

/**
 * The condition that a row, whose columns are named as they are, breaks the rule together with the row of the image in
 * parameter `$n`. The image's side is a sub-select: computed once, so that the index answers.
 */
function standsAgainst(shape: RowShape, rule: UniqueRule, parameter: string): string {
  const given = shape.columns.map((c) => `${valueOf(c, parameter)} AS ${quote(c.name)}`).join(", ");
  const row = withGenerated(`SELECT ${given}`, rule);
  const conditions = rule.expressions.map((own, i) => alike(rule, i, own, `(SELECT ${own} FROM (${row}) n)`));
  if (rule.predicate) conditions.push(`(${rule.predicate})`, `(SELECT ${rule.predicate} FROM (${row}) n)`);
  return conditions.join(" AND ");
}

/** The rows that a select gives, with the generated columns that a rule may need. */
export function withGenerated(select: string, rule: UniqueRule): string {
  if (rule.generated.length === 0) return select;
  const computed = rule.generated.map((c) => `(${c.expression}) AS ${quote(c.name)}`).join(", ");
  return `SELECT n.*, ${computed} FROM (${select}) n`;
}

/** Are the two values alike in the rule's n-th expression? */
export function alike(rule: UniqueRule, n: number, one: string, other: string): string {
  const collation = rule.collations[n];
  const same = `${one} ${rule.operators[n]} ${other}${collation ? ` COLLATE ${collation}` : ""}`;
  return rule.nullsNotDistinct ? `(${same} OR (${one} IS NULL AND ${other} IS NULL))` : same;
}
