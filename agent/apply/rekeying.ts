// Append-only tables: two different rows that were inserted under one key both stay; the later one gets a new key, from
// the key column's own default. Never touches a row that others refer to: then the later one is quarantined instead.
import { resolve, type Versions } from "../merge/resolve.ts";
import type { Op } from "./inbox.ts";
import { type ChangeDeps, type ChangeImages, entryOf } from "./one_change.ts";
import type { Plan } from "./plan.ts";
import { deleteRow, type Image, insertRow, lockRow, type RowHere } from "./rows.ts";

export class Rekeying {
  constructor(private readonly deps: ChangeDeps) {}

  /** At the primary. `here`: the row that holds the key. */
  async settle(plan: Plan, op: Op, images: ChangeImages, here: RowHere, versions: Versions): Promise<void> {
    const { outcomes } = this.deps;
    const image = images.new!;
    if (plan.columns.every((c) => here.image[c.name] === image[c.name])) return;
    const { winner, why, policy } = resolve("insert_exists", this.deps.policyOf(plan.label), versions);
    const later = winner === "primary" ? image : here.image;
    const fresh = await this.deps.isReferred(plan) ? null : await this.freshKey(plan);
    if (winner === "secondary") {
      await this.deps.sql.unsafe(deleteRow(plan), [here.image], { prepare: true });
      await this.insert(plan, image);
    }
    const found = fresh
      ? { winner: "both" as const, why, quarantined: false }
      : { winner, why: "both rows have one key, and there is no new one to be had for the later", quarantined: true };
    outcomes.conflict(entryOf("primary", plan, op, images, { kind: "insert_exists", here, policy, ...found }));
    outcomes.owe(plan, images.newName!, image, winner === "primary");
    if (!fresh) return;
    const moved = { ...later, ...fresh };
    await this.insert(plan, moved);
    const placed = await lockRow(this.deps.sql, plan, moved, this.deps.peerOrigin());
    outcomes.owe(plan, placed!.name, moved, true);
  }

  private async insert(plan: Plan, image: Image): Promise<void> {
    await this.deps.sql.unsafe(insertRow(plan, Object.keys(image)), [image], { prepare: true });
    this.deps.touched.written(plan, image);
  }

  /** A value for the first key column that gives out new ones by itself; null if there is none. */
  private async freshKey(plan: Plan): Promise<Image | null> {
    const { sql } = this.deps;
    const defaults = await sql.unsafe(
      `SELECT a.attname AS name, coalesce(pg_get_expr(d.adbin, d.adrelid),
          'nextval(' || quote_literal(pg_get_serial_sequence($1, a.attname)) || ')') AS expression
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = $1::regclass AND a.attname = ANY ($2::text[])`,
      [plan.target, plan.keys.map((c) => c.name)],
    );
    // A constant, or the time, would be no new key.
    const giving = defaults.find(({ expression }) => /\bnextval\(|uuid/i.test(expression ?? ""));
    if (!giving) return null;
    return { [giving.name]: await this.deps.newValue(giving.expression) };
  }
}
