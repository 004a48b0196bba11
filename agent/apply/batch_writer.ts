// Writes the changes of a batch into the tables, within the applier's open transaction: by sets where nothing stands
// against it, in halves and at last row by row where something does. Never gives up a batch for the sake of one row.
import { decodeLogicalMessage, type Relation, tag } from "../change/pgoutput.ts";
import { askPrefix, sequencesPrefix, verdictPrefix } from "../change/marks.ts";
import { answer } from "../merge/answers.ts";
import type { Sql } from "../postgres/connect.ts";
import { type BulkWriter, RowsDiffer } from "./bulk.ts";
import { parseQuestions, parseVerdicts } from "./conflict_log.ts";
import { Duplicates } from "./duplicates.ts";
import { fold } from "./fold.ts";
import { readImages } from "./images.ts";
import type { Op } from "./inbox.ts";
import { incomingOf, OutOfOrder } from "./one_change.ts";
import { OrderedWriter } from "./ordered.ts";
import type { OwnChanges } from "./own_changes.ts";
import { applyPositions } from "./positions.ts";
import { isRefusal } from "./refusals.ts";
import { lockRow } from "./rows.ts";
import type { Relations } from "./relations.ts";
import { fitsRun, type SetDeps, SetMerger } from "./sets.ts";
import { applyTruncate } from "./truncation.ts";
import { applyVerdicts, type VerdictDeps } from "./verdicts.ts";

export type WriterDeps = Omit<SetDeps, "imagesOf"> & Pick<VerdictDeps, "shapeOf"> & {
  readonly bulk: BulkWriter;
  readonly relations: Relations;
};

/** A shorter run is written faster row by row. */
const shortestRun = 4;
/** What is known of each row of a run is in memory. */
const longestRun = 10_000;
/** A run with a row that is refused is halved down to this. */
const shortestHalf = 64;

export class BatchWriter {
  private readonly sets: SetMerger;
  private readonly ordered: OrderedWriter;
  private readonly duplicates: Duplicates;
  private readonly sql: Sql;
  /** Tables whose rows are written one by one and looked at again before the commit. */
  private oneByOne: ReadonlySet<Relation> = new Set();

  constructor(private readonly deps: WriterDeps) {
    this.sql = deps.sql;
    this.sets = new SetMerger({ ...deps, imagesOf: (ops) => readImages(this.sql, deps.relations, ops) });
    this.ordered = new OrderedWriter(deps);
    this.duplicates = new Duplicates(deps);
  }

  /**
   * `begin`: what opens the transaction, sent with the first statement; empty if it is open. `last`: it is committed after
   * these changes.
   */
  async write(ops: readonly Op[], begin: "BEGIN; " | "", last: boolean): Promise<void> {
    const own = this.deps.own();
    if (own) {
      if (begin) await this.sql.unsafe(begin);
      await this.merge(ops, own);
    } else await this.follow(ops, begin, last);
    await this.deps.outcomes.flush(false);
  }

  /** Before the transaction commits: what can only be judged by its end. */
  async settle(seen: bigint): Promise<void> {
    if (this.deps.role === "primary" && this.deps.own()) await this.duplicates.settle();
    await this.deps.touched.settle(seen);
    await this.deps.outcomes.flush(true);
  }

  /** Nothing of this node's own can be in the way. */
  private async follow(ops: readonly Op[], begin: "BEGIN; " | "", last: boolean): Promise<void> {
    await this.sql.unsafe(`${begin}SAVEPOINT ha_batch`).simple();
    try {
      for (const segment of fold(ops, (op) => this.deps.planOf(op.relation!))) {
        if (segment.kind === "ordered") await this.writeOrdered(segment.ops);
        else for (const work of segment.works) await this.deps.bulk.write(work);
      }
      // A commit releases it by itself.
      if (!last) await this.sql.unsafe("RELEASE SAVEPOINT ha_batch");
    } catch (error) {
      if (!(error instanceof RowsDiffer) && !isRefusal(error)) throw error;
      await this.sql.unsafe("ROLLBACK TO SAVEPOINT ha_batch");
      await this.writeOrdered(ops);
    }
  }

  private async merge(ops: readonly Op[], own: OwnChanges): Promise<void> {
    this.oneByOne = await this.withDeferrable(ops);
    let run: Op[] = [], others: Op[] = [];
    const close = async () => {
      if (run.length > 0) await this.mergeRun(run, own);
      if (others.length > 0) await this.writeOrdered(others);
      run = [];
      others = [];
    };
    for (const op of ops) {
      const fits = !(op.relation && this.oneByOne.has(op.relation)) &&
        fitsRun(op, (each) => this.deps.planOf(each.relation!));
      // At most one of the two has anything in it.
      if ((fits ? others : run).length > 0 || run.length >= longestRun) await close();
      (fits ? run : others).push(op);
    }
    await close();
    await this.deps.touched.changed(ops);
  }

  /** The tables with constraints that the server does not hold the applier to: their rows are noted one by one. */
  private async withDeferrable(ops: readonly Op[]): Promise<Set<Relation>> {
    const found = new Set<Relation>();
    for (const relation of new Set(ops.map((op) => op.relation))) {
      if (!relation) continue;
      const rules = await this.deps.rulesOf(this.deps.planOf(relation));
      if (rules.some((rule) => !rule.immediate)) found.add(relation);
    }
    return found;
  }

  private async mergeRun(run: readonly Op[], own: OwnChanges): Promise<void> {
    if (run.length < shortestRun) return await this.writeOrdered(run);
    const { outcomes } = this.deps;
    const mark = outcomes.mark();
    await this.sql.unsafe("SAVEPOINT ha_batch");
    try {
      const left = await this.sets.run(run, own);
      await this.writeOrdered(left, true);
      await this.sql.unsafe("RELEASE SAVEPOINT ha_batch");
    } catch (error) {
      if (!(error instanceof RowsDiffer) && !(error instanceof OutOfOrder) && !isRefusal(error)) throw error;
      await this.sql.unsafe("ROLLBACK TO SAVEPOINT ha_batch");
      outcomes.restore(mark);
      if (run.length <= shortestHalf) return await this.writeOrdered(run);
      const middle = run.length >> 1;
      await this.mergeRun(run.slice(0, middle), own);
      await this.mergeRun(run.slice(middle), own);
    }
  }

  /** `outOfTurn`: changes that came in between have been written already. */
  private async writeOrdered(ops: readonly Op[], outOfTurn = false): Promise<void> {
    if (ops.length === 0) return;
    const images = await readImages(this.sql, this.deps.relations, ops);
    await this.ordered.prepare(images.values());
    for (const op of ops) {
      const written = images.get(op)?.new;
      if (op.message[0] === tag.truncate) await applyTruncate(this.deps, op);
      else if (op.message[0] === tag.message) await this.logicalMessage(op);
      else await this.ordered.change(op, images.get(op)!, outOfTurn);
      if (written && this.oneByOne.has(op.relation!)) {
        this.duplicates.note(this.deps.planOf(op.relation!), written, incomingOf(op), op.transaction.begin.commitTime);
      }
    }
  }

  private async logicalMessage(op: Op): Promise<void> {
    const { prefix, content } = decodeLogicalMessage(op.message);
    const text = content.toString("utf8");
    if (prefix === verdictPrefix) await applyVerdicts(this.deps, parseVerdicts(text), op.transaction.seen);
    else if (prefix === askPrefix) await this.answer(op, text);
    else if (prefix === sequencesPrefix) await applyPositions(this.sql, text);
  }

  /** The secondary could not apply what was written to these rows, or decided about them. */
  private async answer(op: Op, questions: string): Promise<void> {
    const own = this.deps.own();
    for (const { schema, table, key, name, ...asked } of parseQuestions(questions)) {
      const shape = await this.deps.shapeOf(schema, table);
      if (!shape) continue;
      const row = await lockRow(this.sql, shape, key, this.deps.peerOrigin());
      const word = { renews: asked.renews, time: asked.time === undefined ? null : BigInt(asked.time) };
      const { renews, time } = answer(row, word, own?.lastVerdict(name, op.transaction.seen) ?? null);
      this.deps.outcomes.owe(shape, name, key, renews, time);
    }
  }
}
