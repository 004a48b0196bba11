// The primary's verdicts at the secondary of the model, as in agent/apply/verdicts.ts.
import { carryOut, makeRoom } from "../../../agent/merge/carry_out.ts";
import type { Batch } from "./batch.ts";
import type { Verdict } from "./values.ts";

/** Those of one transaction. What goes makes room for what comes. */
export function applyVerdicts(batch: Batch, verdicts: readonly Verdict[]): void {
  const due = verdicts.filter(({ name }) => !batch.isAskedAbout(name))
    .map((verdict) => ({ verdict, act: actOn(batch, verdict) }));
  for (const { verdict: { name, left }, act } of due) {
    if (act !== "delete") continue;
    batch.put(name, left ?? { id: -1, name, time: 0n, image: null, parents: [], by: "merge" });
  }
  const told = new Set(due.map(({ verdict }) => verdict.name));
  for (const { verdict, act } of due) if (act === "update" || act === "insert") write(batch, verdict, told);
}

function actOn(batch: Batch, { name, version, renews, time }: Verdict) {
  const row = batch.row(name);
  const pending = row
    ? batch.isPending(row) && batch.keeps("newer pending version")
    : batch.keeps("verdict about a pending deletion") && version !== null && batch.deletedUnseen(name) !== null;
  if (!row && !pending && version && !batch.allKnown) {
    // It may have been deleted here a moment ago: the answer will have seen that.
    batch.ask(name, renews, time);
    return "skip";
  }
  return carryOut({ present: row !== null, pending }, version === null);
}

function write(batch: Batch, { name, version, renews, time }: Verdict, told: ReadonlySet<string>): void {
  const { node, row, isPending } = batch;
  const blockers = node.blockers(name, version!.image!, name);
  const room = makeRoom(name, blockers.map((other) => ({ row: other, pending: isPending(row(other)!) })));
  if (!room.write || (blockers.length > 0 && !batch.keeps("room for a verdict"))) {
    if (batch.keeps("question about a verdict kept out")) batch.ask(name, renews, time);
    return;
  }
  for (const other of room.remove) node.rows.delete(other);
  for (const other of room.ask) if (!told.has(other)) batch.ask(other);
  batch.put(name, version!);
}
