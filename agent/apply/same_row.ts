// Two versions of one row, the secondary's change and what stands here: decided by the policy of the table, written, logged,
// and the secondary is told. At the secondary itself nothing is decided.
import type { ConflictKind } from "../merge/classify.ts";
import { mergeColumns } from "../merge/columns.ts";
import type { TablePolicy } from "../merge/policy.ts";
import { resolve, type Versions } from "../merge/resolve.ts";
import type { Op } from "./inbox.ts";
import {
  type ChangeDeps,
  type ChangeImages,
  entryOf,
  type Found,
  keyOr,
  namesOf,
  type OneRow,
  oweNames,
  timeOf,
  writeChange,
} from "./one_change.ts";
import type { Plan } from "./plan.ts";
import { isCollision, isRefusal } from "./refusals.ts";
import { Rekeying } from "./rekeying.ts";
import { type Image, keyOfImage, type RowHere } from "./rows.ts";

export class SameRow {
  private readonly rekeying: Rekeying;

  constructor(private readonly deps: ChangeDeps) {
    this.rekeying = new Rekeying(deps);
  }

  /** At the primary: a row of the same key that both sides wrote. */
  async settle(plan: Plan, op: Op, change: OneRow, kind: ConflictKind, here: RowHere | null): Promise<void> {
    const { incoming, images } = change;
    const policy = this.deps.policyOf(plan.label);
    const versions = await this.versionsOf(kind, policy, here, images.oldName ?? images.newName ?? "", op);
    if (kind === "insert_exists" && policy.rows === "append_only" && here) {
      return await this.rekeying.settle(plan, op, images, here, versions);
    }
    // Whole, for a version wins whole, and is logged whole: large values too, which the change may have left alone.
    const image = images.new && await this.wholeImage(plan, images);
    const whole = { ...images, new: image ?? images.new };
    if (kind === "update_origin_differs" && policy.rows === "merge_columns" && here && images.old && images.new) {
      if (await this.merge(plan, op, images, whole, here, versions)) return;
    }
    const verdict = resolve(kind, policy, versions);
    let { winner, why } = verdict;
    if (winner === "secondary" && incoming !== "delete" && image === null) {
      winner = "primary";
      why = "the secondary's version came without its large values, and is gone there as well";
    }
    if (winner === "secondary") {
      if (incoming === "delete" && here) this.deps.touched.gone(plan, here.image);
      const as = incoming === "delete" ? "delete" : here ? "update" : "insert";
      await writeChange(this.deps.sql, plan, as, keyOr(images), image);
    }
    const { policy: by } = verdict;
    this.log(plan, op, whole, { kind, here, winner, why, policy: by, quarantined: false });
    this.owe(plan, images, winner === "primary", winner === "primary" ? this.timeKept(here) : null);
  }

  /** The time of the primary's part of a merged row that stays as it is. */
  private timeKept(here: RowHere | null): bigint | null {
    return here && !here.own ? this.deps.own()?.renewedTime(here.name) ?? null : null;
  }

  /**
   * At the secondary, an update of a row that is not here and was not deleted here. It may have been left before, for the
   * sake of other pending rows: then the primary tells what the row is.
   */
  async replaceMissing(plan: Plan, op: Op, images: ChangeImages): Promise<void> {
    if (this.deps.own()) {
      for (const [name, image] of namesOf(images)) this.deps.outcomes.ask(plan, name, image);
      return;
    }
    const image = await this.wholeImage(plan, images);
    if (image) await writeChange(this.deps.sql, plan, "insert", keyOr(images), image);
    this.log(plan, op, images, {
      kind: "update_missing",
      here: null,
      winner: "primary",
      why: image
        ? "the row was missing here: it was added"
        : "the row was missing here, and is gone at the primary too",
      policy: this.deps.policyOf(plan.label).rows,
      quarantined: false,
    });
  }

  private async versionsOf(
    kind: ConflictKind,
    { deletes }: TablePolicy,
    here: RowHere | null,
    name: string,
    op: Op,
  ): Promise<Versions> {
    const own = this.deps.own();
    const secondaryTime = op.transaction.begin.commitTime;
    if (here) return { primaryTime: timeOf(here, own), secondaryTime };
    const asked = kind === "update_deleted" && deletes === "last_update_wins";
    return { primaryTime: asked && own ? await own.deletedUnseen(name, op.transaction.seen) : null, secondaryTime };
  }

  /** Takes over the columns that only the secondary changed. False if the table refuses the merged row. */
  private async merge(
    plan: Plan,
    op: Op,
    images: ChangeImages,
    whole: ChangeImages,
    here: RowHere,
    versions: Versions,
  ): Promise<boolean> {
    const { sql } = this.deps;
    const merged = mergeColumns(images.old!, images.new!, here.image, versions);
    await sql.unsafe("SAVEPOINT ha_merged");
    try {
      if (merged.kept !== "primary") await writeChange(this.deps.sql, plan, "update", keyOr(images), merged.image);
      await sql.unsafe("RELEASE SAVEPOINT ha_merged");
    } catch (error) {
      if (!isRefusal(error) || isCollision(error)) throw error;
      await sql.unsafe("ROLLBACK TO SAVEPOINT ha_merged");
      return false;
    }
    const { kept: winner, why } = merged;
    this.log(plan, op, whole, {
      kind: "update_origin_differs",
      here,
      winner,
      why,
      policy: "merge_columns",
      quarantined: false,
    });
    this.owe(plan, images, winner !== "secondary", winner === "both" ? versions.primaryTime : this.timeKept(here));
    return true;
  }

  /** The new version whole: a large value that the change did not touch is asked of the peer. null: it is gone there. */
  async wholeImage(plan: Plan, images: ChangeImages): Promise<Image | null> {
    const image = images.new!;
    if (plan.columns.every((c) => c.name in image)) return image;
    const fetched = await this.deps.fetchRow({
      schema: plan.schema,
      table: plan.table,
      key: keyOfImage(plan, image),
    });
    // Another version of it, or another row under its key: what came after is on its way, whole or not.
    const same = fetched && Object.keys(image).every((name) => fetched[name] === image[name]);
    return same ? { ...fetched, ...image } : null;
  }

  private log(plan: Plan, op: Op, images: ChangeImages, found: Found): void {
    this.deps.outcomes.conflict(entryOf(this.deps.role, plan, op, images, found));
  }

  private owe(plan: Plan, images: ChangeImages, renews: boolean, time: bigint | null = null): void {
    oweNames(this.deps.outcomes, plan, images, renews, time);
  }
}
