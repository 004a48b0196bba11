// The merge by sets: what both sides may have written is looked up for a whole run of changes at once, decided in memory,
// and what is left of the run is written like a run without conflicts. Leaves to the ordered path what needs one row at a
// time. Writes nothing and decides nothing for good unless the whole run goes through.
import { columnTag, decodeChange, decodeTuple, tag } from "../change/pgoutput.ts";
import { keyBytes, rowName } from "../change/row_key.ts";
import { classify, type ConflictKind, type Incoming } from "../merge/classify.ts";
import { resolve, type Verdict } from "../merge/resolve.ts";
import type { TypeDescription } from "../postgres/catalog.ts";
import { type BulkWriter, copyIn, matchKeys, RowsDiffer } from "./bulk.ts";
import type { Row } from "./copy_rows.ts";
import { fold } from "./fold.ts";
import type { Op } from "./inbox.ts";
import { type ChangeDeps, type ChangeImages, entryOf, incomingOf, oweNames, timeOf } from "./one_change.ts";
import type { OwnChanges } from "./own_changes.ts";
import type { Plan } from "./plan.ts";
import { type RowHere, rowHere, selectRows } from "./rows.ts";
import { findCollisions, inSets } from "./unique_sets.ts";

export interface SetDeps extends ChangeDeps {
  readonly bulk: BulkWriter;
  readonly types: () => ReadonlyMap<number, TypeDescription>;
  readonly imagesOf: (ops: readonly Op[]) => Promise<Map<Op, ChangeImages>>;
}

/** One row that a run changes, and what is known of it at the point that has been reached. */
interface Target {
  readonly plan: Plan;
  readonly name: string;
  readonly number: number;
  readonly ops: Op[];
  present: boolean;
  /** Deleted one by one: somebody may have to put it back. */
  wanted: boolean;
  /** Its version here, if it is one that the run may not have seen. */
  here: RowHere | null;
  locked: boolean;
  /** The ordered path takes the rest of its changes. */
  ordered: boolean;
  /** What the run has decided about it: does the primary's version stay? */
  renews: boolean | null;
}

interface Conflict {
  readonly op: Op;
  readonly target: Target;
  readonly kind: ConflictKind;
  readonly here: RowHere | null;
  readonly verdict: Verdict;
}

/** Can this change be part of a run? Others go one by one, in their place. */
export function fitsRun(op: Op, planOf: (op: Op) => Plan): boolean {
  if (!op.relation) return false;
  const plan = planOf(op);
  // Rows without a key have none to collide on: new ones stand in nobody's way.
  if (plan.wholeRow) return op.message[0] === tag.insert;
  const { oldTuple, newTuple } = decodeChange(op.message);
  const key = keyBytes(op.message, newTuple >= 0 ? newTuple : oldTuple, plan.keyPositions);
  if (key === null) return false;
  return op.message[0] !== tag.update || oldTuple < 0 || keyBytes(op.message, oldTuple, plan.keyPositions) === key;
}

export class SetMerger {
  constructor(private readonly deps: SetDeps) {}

  /** Applies a run of changes that fit; answers those that the ordered path is to apply after it, in order. */
  async run(ops: readonly Op[], own: OwnChanges): Promise<Op[]> {
    const { targets, targetOf } = this.targetsOf(ops);
    const horizon = own.horizon(ops[0].transaction.seen);
    for (const [plan, all] of Map.groupBy(targets.values(), ({ plan }) => plan)) {
      const wanted = await this.deps.touched.wantsImages(plan);
      for (const target of all) target.wanted = wanted;
      await this.lookUp(plan, all, horizon);
    }
    const { kept, writeAs, conflicts, left } = await this.decide(ops, targetOf, own);
    const images = await this.deps.imagesOf(conflicts.map(({ op }) => op));
    await this.write(kept, writeAs, targets, horizon);
    const { role, outcomes } = this.deps;
    for (const { op, target: { plan }, kind, here, verdict: { winner, why, policy } } of conflicts) {
      const own = images.get(op)!;
      outcomes.conflict(entryOf(role, plan, op, own, { kind, here, winner, why, policy, quarantined: false }));
      const stays = winner === "primary";
      oweNames(outcomes, plan, own, stays, stays && here && !here.own ? timeOf(here, this.deps.own()) : null);
    }
    return left;
  }

  /** The rows that the run changes, by name, and which of them each change is about: none, for a row without a key. */
  private targetsOf(ops: readonly Op[]) {
    const targets = new Map<string, Target>();
    const targetOf = new Map<Op, Target>();
    for (const op of ops) {
      const plan = this.deps.planOf(op.relation!);
      if (plan.wholeRow) continue;
      const { message, at } = tupleOf(op);
      const name = rowName(plan.schema, plan.table, keyBytes(message, at, plan.keyPositions)!);
      let target = targets.get(name);
      if (target) target.ops.push(op);
      else {
        target = {
          plan,
          name,
          number: -1 - targets.size,
          ops: [op],
          present: true,
          wanted: false,
          here: null,
          locked: false,
          ordered: false,
          renews: null,
        };
        targets.set(name, target);
      }
      targetOf.set(op, target);
    }
    return { targets, targetOf };
  }

  /** Finds out which rows are there, and locks those that may be unseen own versions. */
  private async lookUp(plan: Plan, targets: readonly Target[], horizon: number): Promise<void> {
    const { sql } = this.deps;
    plan.filled.rows += targets.length;
    const byNumber = new Map(targets.map((target) => [target.number, target]));
    const rules = await this.deps.rulesOf(plan);
    const whole = rules.some((rule) => inSets(plan, rule));
    const columns = whole ? plan.columns : plan.keys;
    await copyIn(
      sql,
      `COPY ${plan.stage} (${
        ["ha_n", "ha_old", ...columns.map((c) => c.quoted)].join(", ")
      }) FROM STDIN (FORMAT binary)`,
      this.deps.types(),
      async (out, room) => {
        for (const { number, ops } of targets) {
          out.startRow(columns.length + 2);
          out.addInt4(number);
          out.addBoolean(ops[0].message[0] === tag.insert);
          out.addColumns(tupleOf(ops.at(-1)!), columns);
          const waiting = room();
          if (waiting) await waiting;
        }
      },
    );
    // Of inserts all that are there matter; of the others those that are not, or that may be unseen.
    const found = await sql.unsafe(
      `SELECT s.ha_n AS n, t.ctid IS NOT NULL AS there FROM ${plan.stage} s ` +
        `LEFT JOIN ONLY ${plan.target} t ON ${matchKeys(plan)} WHERE s.ha_n < 0 AND CASE WHEN t.ctid IS NULL ` +
        `THEN NOT s.ha_old ELSE s.ha_old OR age(t.xmin) <= age($1::text::xid) END`,
      [String(horizon)],
      { prepare: true },
    );
    for (const target of targets) target.present = target.ops[0].message[0] !== tag.insert;
    const numbers = found.filter(({ there }) => there).map(({ n }) => n as number);
    for (const { n } of found) byNumber.get(n)!.present = false;
    if (numbers.length > 0) await this.lock(plan, numbers, byNumber);
    if (whole) { for (const n of await findCollisions(sql, plan, rules)) byNumber.get(n)!.ordered = true; }
    await sql.unsafe(`DELETE FROM ${plan.stage} WHERE ha_n < 0`);
  }

  private async lock(plan: Plan, numbers: number[], byNumber: ReadonlyMap<number, Target>): Promise<void> {
    const rows = await this.deps.sql.unsafe(
      `${selectRows(plan)}, ${plan.stage} s WHERE s.ha_n = ANY ($1::int[]) AND ${matchKeys(plan)} FOR UPDATE OF t`
        .replace("SELECT ", "SELECT s.ha_n AS n, "),
      [numbers],
      { prepare: true },
    );
    for (const row of rows) {
      const target = byNumber.get(row.n)!;
      target.present = true;
      target.here = rowHere(plan, row, this.deps.peerOrigin());
      target.locked = true;
    }
  }

  /** Goes through the changes in their order. */
  private async decide(ops: readonly Op[], targetOf: ReadonlyMap<Op, Target>, own: OwnChanges) {
    const { role } = this.deps;
    const kept: Op[] = [], left: Op[] = [], conflicts: Conflict[] = [];
    const writeAs = new Map<Op, "insert" | "update">();
    if (role === "secondary" && [...targetOf.values()].some(({ present }) => !present)) await own.allKnown();
    for (const op of ops) {
      const target = targetOf.get(op);
      if (!target) {
        kept.push(op);
        continue;
      }
      const incoming = incomingOf(op);
      // The primary's answer brings the row whole.
      if (role === "secondary" && own.askedAbout(target.name, op.transaction.seen)) continue;
      if (target.wanted && incoming === "delete") target.ordered = true;
      const step = target.ordered ? null : this.stepFor(op, incoming, target, own);
      if (
        step === null || (step.do === "resolve" && this.needsOneRow(op, target, step.kind)) ||
        this.tells(op, target, own) || (step.do === "leave" && incoming === "insert" && !target.present)
      ) {
        target.ordered = true;
        left.push(op);
        continue;
      }
      if (step.do === "nothing" || step.do === "leave") continue;
      if (step.do === "resolve") {
        const { verdict, here } = this.resolve(op, target, step.kind, own);
        conflicts.push({ op, target, kind: step.kind, here, verdict });
        target.renews = verdict.winner === "primary";
        if (verdict.winner === "primary") continue;
      }
      if (incoming !== "delete" && (incoming === "insert") === target.present) {
        writeAs.set(op, target.present ? "update" : "insert");
      }
      kept.push(op);
      target.present = incoming !== "delete";
      target.here = null;
    }
    return { kept, writeAs, conflicts, left };
  }

  private stepFor(op: Op, incoming: Incoming, target: Target, own: OwnChanges) {
    const { seen } = op.transaction;
    const { role } = this.deps;
    const { here } = target;
    const renewed = target.renews ?? own.verdictUnseen(target.name, seen);
    const unseen = (here !== null && here.own && own.isUnseen(here.writer, seen)) || (target.present && renewed);
    const pending = !target.present && incoming !== "delete" &&
      (role === "primary" || own.knownDeleted(target.name, seen) !== null);
    return classify(role, incoming, target.present ? { present: true, unseen } : { present: false }, pending);
  }

  /** What cannot be decided, or written, without a look at the row itself. */
  private needsOneRow(op: Op, target: Target, kind: ConflictKind): boolean {
    const { rows, deletes } = this.deps.policyOf(target.plan.label);
    // A renewed row that is older than the horizon was not looked at.
    if (target.present && target.here === null) return true;
    if (kind === "update_missing") return true;
    if (kind === "insert_exists") return rows === "append_only";
    if (kind === "update_origin_differs" && rows === "merge_columns") return true;
    if (kind === "update_deleted" && deletes === "last_update_wins") return true;
    return leavesOut(op);
  }

  /** May a verdict that is out have to be followed by another (see OrderedWriter)? */
  private tells(op: Op, { name, present, renews }: Target, own: OwnChanges): boolean {
    if (this.deps.role === "secondary") return false;
    const { seen } = op.transaction;
    if (!present) return renews ?? own.verdictUnseen(name, seen);
    if (op.message[0] !== tag.update || (renews === null && own.lastVerdict(name, seen) === null)) return false;
    return leavesOut(op);
  }

  private resolve(
    op: Op,
    target: Target,
    kind: ConflictKind,
    own: OwnChanges,
  ): { verdict: Verdict; here: RowHere | null } {
    const { here } = target;
    const primaryTime = here && timeOf(here, own);
    const secondaryTime = op.transaction.begin.commitTime;
    return { here, verdict: resolve(kind, this.deps.policyOf(target.plan.label), { primaryTime, secondaryTime }) };
  }

  private async write(
    kept: readonly Op[],
    writeAs: ReadonlyMap<Op, "insert" | "update">,
    targets: ReadonlyMap<string, Target>,
    horizon: number,
  ): Promise<void> {
    const lookout = {
      horizon,
      isLocked: (plan: Plan, { message, at }: Row) =>
        targets.get(rowName(plan.schema, plan.table, keyBytes(message, at, plan.keyPositions)!))!.locked,
    };
    for (const segment of fold(kept, (op) => this.deps.planOf(op.relation!), writeAs)) {
      if (segment.kind === "ordered") throw new RowsDiffer("the changes of a row do not follow from each other");
      for (const work of segment.works) await this.deps.bulk.write(work, lookout);
    }
  }
}

/** Did the change leave large values alone? */
function leavesOut({ message }: Op): boolean {
  const { newTuple } = decodeChange(message);
  return newTuple >= 0 && decodeTuple(message, newTuple).some(({ kind }) => kind === columnTag.unchanged);
}

function tupleOf({ message }: Op): Row {
  const { newTuple, oldTuple } = decodeChange(message);
  return { message, at: newTuple >= 0 ? newTuple : oldTuple, base: null };
}
