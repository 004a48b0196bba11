// Unique and exclusion constraints asked for many rows at once: before they are written, and after, where the constraint
// is DEFERRABLE and the applier's session does not enforce it. Finds; what becomes of the rows is decided elsewhere.
import type { Sql } from "../postgres/connect.ts";
import type { UniqueRule } from "../postgres/constraints.ts";
import { alike, type Blocker, findBlockers, withGenerated } from "./blockers.ts";
import { staged } from "./bulk.ts";
import { literal, type Plan, quote } from "./plan.ts";
import { type Image, lockRow, type RowHere, type RowShape } from "./rows.ts";

/** Can findCollisions answer for the rule? The others want a look at each row (findBlockers, findDuplicates). */
export function inSets(plan: RowShape, rule: UniqueRule): boolean {
  const { columns } = rule;
  if (!rule.immediate || rule.exclusion || rule.predicate !== null || columns === null) return false;
  // Of rows with the same key there is one: what includes the key is held by no other row.
  return plan.wholeRow || !plan.keys.every((key) => columns.includes(key.name));
}

/**
 * The numbers (ha_n < 0) of the rows in plan.stage, staged whole, of which another row of the table, by its key, holds the
 * values of a unique rule. Rules that are not for sets (see inSets) are passed over. One statement, or none.
 */
export async function findCollisions(sql: Sql, plan: Plan, rules: readonly UniqueRule[]): Promise<number[]> {
  const asked = rules.filter((rule) => inSets(plan, rule));
  if (asked.length === 0) return [];
  const columns = plan.columns.map((c) => `${staged(c)} AS ${c.quoted}`).join(", ");
  const rows = `SELECT s.ha_n${columns && `, ${columns}`} FROM ${plan.stage} s WHERE s.ha_n < 0`;
  const other = plan.wholeRow
    ? ""
    : ` AND (${plan.keys.map((c) => `t.${c.quoted} = s.${c.quoted}`).join(" AND ")}) IS NOT TRUE`;
  const each = asked.map((rule) => {
    const same = rule.columns!.map((name, i) => alike(rule, i, `t.${quote(name)}`, `s.${quote(name)}`)).join(" AND ");
    // A join, so that it can be hashed; a rule at a time, so that each has its own index.
    return `SELECT s.ha_n FROM (${withGenerated(rows, rule)}) s ` +
      `WHERE EXISTS (SELECT FROM ONLY ${plan.target} t WHERE ${same}${other})`;
  });
  const found = await sql.unsafe(each.join(" UNION "), [], { prepare: true });
  return found.map((row) => row.ha_n);
}

/** Two rows that stand beside each other against a rule. */
export interface Duplicate {
  readonly row: RowHere;
  readonly other: RowHere;
  readonly rule: UniqueRule;
}

/**
 * After a batch: the rows of these keys (of a table without a key, whole rows) that now stand beside a row that they may
 * not, each pair once for each rule, both locked FOR UPDATE. Only DEFERRABLE rules are asked: the others have refused.
 */
export async function findDuplicates(
  sql: Sql,
  shape: RowShape,
  rules: readonly UniqueRule[],
  keys: readonly Image[],
  peerOrigin: string,
): Promise<Duplicate[]> {
  const found: Duplicate[] = [];
  for (const rule of rules.filter((rule) => !rule.immediate)) {
    const known = new Set<string>();
    for (const image of await suspects(sql, shape, rule, keys)) {
      // Looked at again with locks: the application may be writing these rows too.
      const row = await lockRow(sql, shape, image, peerOrigin);
      if (!row) continue;
      const others: Blocker[] = await findBlockers(sql, shape, [rule], row.image, peerOrigin, row.image);
      const own = JSON.stringify(row.image);
      for (const { row: other } of others) {
        const pair = [own, JSON.stringify(other.image)].sort().join("\0");
        if (known.has(pair)) continue;
        known.add(pair);
        found.push({ row, other, rule });
      }
    }
  }
  return found;
}

/** The rows of the keys that seem to break the rule, as images of what lockRow finds a row by. */
async function suspects(sql: Sql, shape: RowShape, rule: UniqueRule, keys: readonly Image[]): Promise<Image[]> {
  if (keys.length === 0) return [];
  const named = shape.wholeRow ? shape.columns : shape.keys;
  const key = `jsonb_object(ARRAY[${named.map((c) => literal(c.name)).join(", ")}]::text[], ` +
    `ARRAY[${named.map((c) => `t.${quote(c.name)}::text`).join(", ")}]::text[])`;
  const matching = named.map((c) => {
    const given = `(g.item->>${literal(c.name)})`;
    return shape.wholeRow
      ? `t.${quote(c.name)}::text IS NOT DISTINCT FROM ${given}`
      : `t.${quote(c.name)} = ${given}::${c.typeName}`;
  }).join(" AND ");
  // Bare column names of the rule mean, in each of the two sub-selects, the one table that is in it.
  const values = rule.expressions.map((expression, i) => `${expression} AS ha_${i}`).join(", ");
  const same = rule.expressions.map((expression, i) => alike(rule, i, expression, `a.ha_${i}`)).join(" AND ");
  const predicate = rule.predicate ? ` AND (${rule.predicate})` : "";
  const rows = await sql.unsafe(
    `SELECT DISTINCT a.ha_key AS key FROM jsonb_array_elements($1::text::jsonb) g(item), ` +
      `LATERAL (SELECT t.ctid AS ha_place, ${key} AS ha_key, ${values} FROM ONLY ${shape.target} t ` +
      `WHERE ${matching}${predicate}) a ` +
      `WHERE EXISTS (SELECT FROM ONLY ${shape.target} o WHERE o.ctid <> a.ha_place AND ${same}${predicate})`,
    [JSON.stringify(keys)],
    { prepare: true },
  );
  return rows.map((row) => row.key);
}
