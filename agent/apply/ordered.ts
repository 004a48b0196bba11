// The ordered path: one change after the other, each under a savepoint, with the row locked and its history looked at.
// A row that the table refuses is logged whole and skipped; only failures that pass by themselves stop the batch.
import { classify, type Current, type Incoming, type Step } from "../merge/classify.ts";
import { Collisions } from "./collisions.ts";
import type { Op } from "./inbox.ts";
import {
  type ChangeDeps,
  type ChangeImages,
  entryOf,
  type Found,
  incomingOf,
  keyOr,
  namesOf,
  type OneRow,
  OutOfOrder,
  oweNames,
  writeChange,
} from "./one_change.ts";
import type { Plan } from "./plan.ts";
import { isCollision, isRefusal } from "./refusals.ts";
import { type Image, lockRow, type RowHere, updateRow } from "./rows.ts";
import { SameRow } from "./same_row.ts";

/** No more tries for a change whose row is kept out again and again. */
const mostTries = 5;

/** The row at a change's place, locked, and what is to be done. */
interface Look {
  readonly here: RowHere | null;
  readonly step: Step;
}

export class OrderedWriter {
  private readonly collisions: Collisions;
  private readonly sameRow: SameRow;

  constructor(private readonly deps: ChangeDeps) {
    this.collisions = new Collisions(deps);
    this.sameRow = new SameRow(deps);
  }

  /** Before the changes of a batch: own deletes of rows that it does not find must be known. */
  async prepare(images: Iterable<ChangeImages>): Promise<void> {
    const own = this.deps.own();
    if (!own || this.deps.role === "primary") return;
    for (const { missing } of images) if (missing) return void await own.allKnown();
  }

  /**
   * Applies one row change. Throws when the whole batch has to be tried again, and OutOfOrder for a change `outOfTurn`
   * that the table refuses for the sake of a row that is not this node's own.
   */
  async change(op: Op, images: ChangeImages, outOfTurn = false): Promise<void> {
    const { sql, outcomes } = this.deps;
    for (let tries = 1;; tries++) {
      const mark = outcomes.mark();
      await sql.unsafe("SAVEPOINT ha_row");
      try {
        await this.tryChange(op, images);
        await sql.unsafe("RELEASE SAVEPOINT ha_row");
        if (tries > 1) this.oweOutcome(op, images);
        return;
      } catch (error) {
        if (!isRefusal(error)) throw error;
        await sql.unsafe("ROLLBACK TO SAVEPOINT ha_row");
        // With a key change one of the two rows may have been decided about already.
        outcomes.restore(mark);
        if (outOfTurn && !isCollision(error)) throw new OutOfOrder(String(error));
        if (!await this.refused(op, images, error as Error, tries < mostTries, outOfTurn)) return;
      }
    }
  }

  /** Others have given way to the change: the secondary is told what has become of it too. */
  private oweOutcome(op: Op, images: ChangeImages): void {
    const { outcomes } = this.deps;
    const plan = this.deps.planOf(op.relation!);
    for (const [name, image] of namesOf(images)) if (!outcomes.isOwed(name)) outcomes.owe(plan, name, image, false);
  }

  private async tryChange(op: Op, images: ChangeImages): Promise<void> {
    const plan = this.deps.planOf(op.relation!);
    const incoming = incomingOf(op);
    if (plan.wholeRow) return await this.writeWholeRow(plan, incoming, keyOr(images), op, images);
    if (this.leavesToAnswer(plan, op, images)) return;
    const { oldName, newName } = images;
    if (this.deps.own() && oldName !== null && newName !== null && oldName !== newName) {
      return await this.moveRow(plan, op, images);
    }
    const change = { incoming, images };
    await this.write(plan, op, change, await this.look(plan, op, change));
  }

  /** What comes about a row that the primary has been asked about is left: its answer brings the row whole. */
  private leavesToAnswer(plan: Plan, op: Op, images: ChangeImages): boolean {
    const own = this.deps.own();
    if (this.deps.role === "primary" || !own) return false;
    const names = namesOf(images);
    if (!names.some(([name]) => own.askedAbout(name, op.transaction.seen))) return false;
    // With a key change one of the two rows may be another's business: both are asked about.
    if (names.length > 1) { for (const [name, image] of names) this.deps.outcomes.ask(plan, name, image); }
    return true;
  }

  /** To both sides a key change is a delete of the one row and an insert of the other. */
  private async moveRow(plan: Plan, op: Op, images: ChangeImages): Promise<void> {
    const gone: OneRow = { incoming: "delete", images: { ...images, new: null, newName: null } };
    const come: OneRow = { incoming: "insert", images: { ...images, old: null, oldName: null, missing: false } };
    const [from, to] = [await this.look(plan, op, gone), await this.look(plan, op, come)];
    if (from.step.do === "apply" && to.step.do === "apply") {
      this.deps.touched.gone(plan, from.here!.image);
      await writeChange(this.deps.sql, plan, "update", images.old!, images.new);
      return this.tell(plan, op, { incoming: "update", images }, from.here !== null);
    }
    // Large values that the change left alone are those of the row that it moved.
    const image = from.step.do === "apply"
      ? { ...from.here!.image, ...images.new }
      : await this.sameRow.wholeImage(plan, images);
    await this.write(plan, op, gone, from);
    if (image) return await this.write(plan, op, { ...come, images: { ...come.images, new: image } }, to);
    if (this.deps.role === "secondary") {
      for (const [name, each] of namesOf(images)) this.deps.outcomes.ask(plan, name, each);
      return;
    }
    this.log(plan, op, come.images, {
      kind: "cannot_apply",
      here: to.here,
      winner: "primary",
      why: "the row has another key at the secondary, and its large values are not to be had there any more",
      policy: this.deps.policyOf(plan.label).rows,
      quarantined: true,
    });
    this.deps.outcomes.owe(plan, images.newName!, images.new!, to.here !== null);
  }

  /** What stands at the row's place, and what that means for the change. */
  private async look(plan: Plan, op: Op, { incoming, images }: OneRow): Promise<Look> {
    const here = await this.lock(plan, keyOr(images));
    const name = images.oldName ?? images.newName ?? "";
    const pending = !here && incoming !== "delete" && await this.mayBePending(name, images.missing, op);
    return { here, step: classify(this.deps.role, incoming, this.currentOf(here, name, op), pending) };
  }

  private async write(plan: Plan, op: Op, change: OneRow, { here, step }: Look): Promise<void> {
    const { incoming, images } = change;
    switch (step.do) {
      case "leave":
        // Not there when the primary applied the delete, or the TRUNCATE, this row may be one that it knows no conflict of.
        if (incoming === "insert" && !here) this.deps.outcomes.ask(plan, images.newName!, images.new!);
        return;
      case "nothing":
        return;
      case "apply":
        if (incoming === "delete" && here) this.deps.touched.gone(plan, here.image);
        await writeChange(this.deps.sql, plan, incoming, keyOr(images), images.new);
        return this.tell(plan, op, change, here !== null);
      case "upsert":
        return await writeChange(this.deps.sql, plan, "update", keyOr(images), images.new);
      case "resolve":
        return this.deps.role === "primary"
          ? await this.sameRow.settle(plan, op, change, step.kind, here)
          : await this.sameRow.replaceMissing(plan, op, images);
    }
  }

  /** A verdict that is out, and unseen by who wrote this, may say something else of the row than what it is now. */
  private tell(plan: Plan, op: Op, { incoming, images }: OneRow, wasHere: boolean): void {
    const own = this.deps.own();
    if (this.deps.role === "secondary" || !own || incoming === "delete") return;
    const image = images.new!;
    const { seen } = op.transaction;
    const moved = images.oldName !== null && images.oldName !== images.newName;
    // What the change left alone may not be what its writer had.
    const partial = wasHere && plan.columns.some((c) => !(c.name in image)) &&
      own.lastVerdict(images.oldName ?? images.newName!, seen) !== null;
    // The version that was renewed is gone, and this is another.
    const ended = (!wasHere || moved) && own.verdictUnseen(images.newName!, seen);
    if (partial || ended) this.deps.outcomes.owe(plan, images.newName!, image, false);
  }

  /** Rows without a key: a row that was changed on both sides stays in both forms. */
  private async writeWholeRow(
    plan: Plan,
    incoming: Incoming,
    named: Image,
    op: Op,
    images: ChangeImages,
  ): Promise<void> {
    const { sql, role } = this.deps;
    const image = images.new && { ...named, ...images.new };
    if (incoming !== "update") return await writeChange(this.deps.sql, plan, incoming, named, image);
    const statement = updateRow(plan, Object.keys(images.new!), true);
    const { count } = await sql.unsafe(statement!, [named, images.new], { prepare: true });
    if (count > 0) return;
    await writeChange(this.deps.sql, plan, "insert", named, image);
    if (!this.deps.own() || role !== "primary") return;
    this.log(plan, op, images, {
      kind: "update_missing",
      here: null,
      winner: "both",
      why: "a table without a primary key: the row that the secondary changed was not here, so its version was added",
      policy: this.deps.policyOf(plan.label).rows,
      quarantined: false,
    });
  }

  /** A row that an update or insert does not find: at the primary an update's can only have been deleted unseen. */
  private async mayBePending(name: string, missing: boolean, op: Op): Promise<boolean> {
    const own = this.deps.own();
    if (!own || this.deps.role === "primary") return own !== null;
    const { seen } = op.transaction;
    // What was missing when the batch began has been looked into for the whole batch at once (see prepare).
    return (missing ? own.knownDeleted(name, seen) : await own.deletedUnseen(name, seen)) !== null;
  }

  private lock(plan: Plan, named: Image): Promise<RowHere | null> {
    return lockRow(this.deps.sql, plan, named, this.deps.peerOrigin());
  }

  private currentOf(here: RowHere | null, name: string, op: Op): Current {
    if (!here) return { present: false };
    const own = this.deps.own();
    const { seen } = op.transaction;
    // A row that a verdict has merged was written by the applier and counts as the primary's all the same.
    const unseen = own !== null &&
      ((here.own && own.isUnseen(here.writer, seen)) || own.verdictUnseen(name, seen));
    return { present: true, unseen };
  }

  /** The table does not take the change. True if it is to be tried once more. */
  private async refused(
    op: Op,
    images: ChangeImages,
    error: Error,
    again: boolean,
    outOfTurn: boolean,
  ): Promise<boolean> {
    const plan = this.deps.planOf(op.relation!);
    const { role, outcomes } = this.deps;
    const name = images.newName ?? images.oldName;
    if (isCollision(error) && this.deps.own() && !plan.wholeRow) {
      if (role === "secondary") {
        // Another row's pending version may be why. The primary has met, or will meet, the same; it tells.
        for (const [each, image] of namesOf(images)) outcomes.ask(plan, each, image);
        return false;
      }
      if (again) {
        const settled = await this.collisions.settle(plan, op, images, outOfTurn);
        if (settled !== "no blockers") return settled === "again";
      }
    }
    const here = plan.wholeRow ? null : await this.lock(plan, keyOr(images));
    this.log(plan, op, images, {
      kind: "cannot_apply",
      here,
      winner: role,
      // The server's detail would quote the row's values; its message does not.
      why: error.message,
      policy: this.deps.policyOf(plan.label).rows,
      quarantined: images.new !== null,
    });
    if (name !== null) oweNames(this.deps.outcomes, plan, images, true);
    return false;
  }

  private log(plan: Plan, op: Op, images: ChangeImages, found: Found): void {
    this.deps.outcomes.conflict(entryOf(this.deps.role, plan, op, images, found));
  }
}
