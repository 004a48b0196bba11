// At the primary: a change of the secondary's that cannot stand beside other rows here, by a unique or an exclusion
// constraint. By policy the change gives way or those rows do; who gives way is logged whole, and all are told of.
import { tag } from "../change/pgoutput.ts";
import type { ConflictKind } from "../merge/classify.ts";
import { resolve } from "../merge/resolve.ts";
import { type Blocker, findBlockers } from "./blockers.ts";
import type { Op } from "./inbox.ts";
import { type ChangeDeps, type ChangeImages, entryOf, keyOr, namesOf, OutOfOrder, timeOf } from "./one_change.ts";
import type { Plan } from "./plan.ts";
import { deleteRow, type Image, keyOfImage, lockRow } from "./rows.ts";

export class Collisions {
  constructor(private readonly deps: ChangeDeps) {}

  /** `again`: there is room for the change now. `settled`: it has given way. */
  async settle(
    plan: Plan,
    op: Op,
    images: ChangeImages,
    outOfTurn: boolean,
  ): Promise<"again" | "settled" | "no blockers"> {
    const { sql, outcomes, policyOf } = this.deps;
    const here = await lockRow(sql, plan, keyOr(images), this.deps.peerOrigin());
    const image: Image = { ...here?.image, ...images.new };
    const rules = await this.deps.rulesOf(plan);
    const blockers = await findBlockers(sql, plan, rules, image, this.deps.peerOrigin(), keyOr(images));
    if (blockers.length === 0) return "no blockers";
    if (outOfTurn && blockers.some(({ row }) => !row.own)) throw new OutOfOrder(plan.label);
    const whole = { ...images, new: images.new && image };
    const policy = policyOf(plan.label);
    const times = blockers.map(({ row }) => timeOf(row, this.deps.own()));
    const primaryTime = times.reduce((latest, time) => time > latest ? time : latest);
    const secondaryTime = op.transaction.begin.commitTime;
    const { winner, why, policy: by } = policy.rows === "append_only"
      ? { winner: "primary" as const, why: "no row of an append-only table gives way", policy: policy.rows }
      : resolve("update_exists", policy, { primaryTime, secondaryTime });
    const kind = kindOf(op, blockers);
    for (const { row } of winner === "secondary" ? blockers : blockers.slice(0, 1)) {
      const found = { kind, here: row, winner, why, policy: by, quarantined: true };
      const entry = entryOf("primary", plan, op, whole, found);
      outcomes.conflict({ ...entry, key: winner === "secondary" ? keyOfImage(plan, row.image) : entry.key });
    }
    if (winner === "secondary") {
      for (const { row } of blockers) {
        await sql.unsafe(deleteRow(plan), [row.image], { prepare: true });
        this.deps.touched.gone(plan, row.image);
        outcomes.owe(plan, row.name, row.image, false);
      }
      // The change's own row has not been looked at yet: that is decided when it is tried again.
      return "again";
    }
    // The rows in the way go their own way to the secondary; what is not taken there is asked about.
    for (const [name, each] of namesOf(images)) await this.stay(plan, name, each, primaryTime);
    return "settled";
  }

  /** Who built upon the version that gives way has not seen the one that stays, as of the time of what made it stay. */
  private async stay(plan: Plan, name: string, image: Image, time: bigint): Promise<void> {
    const row = await lockRow(this.deps.sql, plan, image, this.deps.peerOrigin());
    if (!row || row.own) return this.deps.outcomes.owe(plan, name, image, row !== null);
    const renewed = this.deps.own()?.renewedTime(name) ?? null;
    this.deps.outcomes.owe(plan, name, image, true, renewed !== null && renewed > time ? renewed : time);
  }
}

function kindOf(op: Op, blockers: readonly Blocker[]): ConflictKind {
  if (blockers.some(({ rules }) => rules.some((rule) => rule.exclusion))) return "exclusion_differs";
  if (blockers.length > 1) return "multiple_unique_conflicts";
  return op.message[0] === tag.insert ? "insert_exists" : "update_exists";
}
