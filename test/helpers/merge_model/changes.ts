// One row change of the peer's at a node of the model: follows agent/apply/ordered.ts step by step, around the real
// decisions of agent/merge.
import { classify, type Step } from "../../../agent/merge/classify.ts";
import type { Batch } from "./batch.ts";
import { settleCollision, stay } from "./collisions.ts";
import { settleRow } from "./same_row.ts";
import { alive, bothDeleted, type Image, type Row, type RowChange, sameImage, type Version } from "./values.ts";

/** No more tries for a change whose row is kept out again and again. */
const mostTries = 5;
export const none: readonly string[] = [];

export function applyChange(batch: Batch, change: RowChange): void {
  const { ledger } = batch;
  for (let tries = 1;; tries++) {
    const mark = batch.mark();
    const blockers = tryChange(batch, change);
    if (blockers.length === 0) {
      if (tries > 1) { for (const name of namesOf(change)) if (!batch.isOwed(name)) batch.owe(name, false); }
      return;
    }
    batch.restore(mark);
    if (batch.role === "secondary") {
      if (batch.keeps("question about a refused change")) { for (const name of namesOf(change)) batch.ask(name); }
      return;
    }
    if (tries === mostTries) ledger.faults.push("a row is kept out again and again");
    const others = blockers.filter((name) => name !== change.oldName);
    if (others.length === 0 || tries === mostTries) return giveUp(batch, change);
    if (settleCollision(batch, change, others) === "settled") return;
  }
}

export const namesOf = ({ oldName, newName }: RowChange): string[] =>
  oldName === newName ? [oldName] : [oldName, newName];

/** The table does not take the change, and no other row is to blame: a moved row beside the one that stays. */
function giveUp(batch: Batch, change: RowChange): void {
  const { version } = change;
  batch.ledger.log("cannot_apply", "primary", null, version);
  for (const name of namesOf(change)) stay(batch, name, version.time);
}

/** Answers the rows that keep the change out; then what it has done is to be undone. */
function tryChange(batch: Batch, change: RowChange): readonly string[] {
  const names = namesOf(change);
  if (names.some(batch.isAskedAbout)) {
    // With a key change one of the two rows may be another's business: both are told of.
    if (names.length > 1) { for (const name of names) batch.ask(name); }
    return none;
  }
  return names.length > 1 ? moveRow(batch, change) : writeRow(batch, change);
}

/** To both sides a key change is a delete of the one row and an insert of the other. */
function moveRow(batch: Batch, change: RowChange): readonly string[] {
  const { oldName, newName, left, after } = change;
  const gone: RowChange = { ...change, incoming: "delete", newName: oldName, version: left!, after: null, left: null };
  const come: RowChange = { ...change, incoming: "insert", oldName: newName, left: null };
  const from = look(batch, gone), to = look(batch, come);
  if (from.step.do === "apply" && batch.allKnown && to.step.do === "apply") {
    return put(batch, change, from.here, imageOver(after, from.here));
  }
  // Large values that the change left alone are those of the row that it moved.
  const image = from.step.do === "apply" ? imageOver(after, from.here) : wholeImage(batch, newName, after!);
  if (!image) return leaveMove(batch, change, gone);
  const blockers = writeRow(batch, gone);
  return blockers.length > 0 ? blockers : writeRow(batch, { ...come, after: image });
}

/** The peer has no such row any more: what became of it there comes behind. */
function leaveMove(batch: Batch, { oldName, newName, version }: RowChange, gone: RowChange): readonly string[] {
  if (batch.role === "secondary") return askAbout(batch, [oldName, newName]);
  batch.ledger.log("update_deleted", "primary", null, version);
  stay(batch, newName, version.time);
  return writeRow(batch, gone);
}

function askAbout(batch: Batch, names: readonly string[]): readonly string[] {
  for (const name of names) batch.ask(name);
  return none;
}

/** What stands at the row's place, and what that means for the change. */
function look(batch: Batch, { incoming, oldName }: RowChange): { here: Row | null; step: Step } {
  const here = batch.row(oldName);
  const pending = !here && incoming !== "delete" &&
    (batch.role === "primary" || (batch.keeps("pending deletion") && batch.deletedUnseen(oldName) !== null));
  const current = here
    ? { present: true as const, unseen: batch.isUnseen(oldName, here) }
    : { present: false as const };
  return { here, step: classify(batch.role, incoming, current, pending) };
}

function writeRow(batch: Batch, change: RowChange): readonly string[] {
  const { role, node, ledger } = batch;
  const { oldName, version } = change;
  const { here, step } = look(batch, change);
  // It may have been deleted here a moment ago: the answer will have seen that.
  const isLate = !here && step.do === "apply" && !batch.allKnown && batch.keeps("question about what is not known yet");
  if (isLate) return askAbout(batch, [oldName]);
  switch (step.do) {
    case "leave":
      return none;
    case "nothing": {
      const row = node.rows.get(oldName);
      // Both have deleted it.
      if (row) node.rows.set(oldName, { ...row, version: bothDeleted(version, row.version) });
      else ledger.ended.push(version);
      return none;
    }
    case "apply":
    case "upsert":
      return put(batch, change, here, imageOver(change.after, here));
    case "resolve":
      if (role === "primary") return settleRow(batch, change, step.kind, here);
      if (!batch.allKnown) return askAbout(batch, [oldName]);
      // All that it leaves is asked about, so it never misses a row.
      ledger.faults.push(`the secondary has to decide: ${step.kind}`);
      return none;
  }
}

/** Writes the change as it is, over the row that is there. */
export function put(batch: Batch, change: RowChange, here: Row | null, image: Image | null): readonly string[] {
  const { node } = batch;
  const { oldName, newName, version, left } = change;
  if (image === null) {
    batch.put(oldName, version);
    return none;
  }
  const blockers = node.blockers(newName, image, oldName);
  if (blockers.length > 0) return blockers;
  endTombstone(batch, newName);
  if (left) batch.put(oldName, left, true);
  batch.put(newName, sameImage(image, version.image) ? version : mixed(change, here, image));
  tell(batch, change, here !== null);
  return none;
}

/** Another row of the same key was inserted there and deleted here: nobody's version is overruled by that. */
export function endTombstone({ node, ledger }: Batch, name: string): void {
  const dead = node.rows.get(name);
  if (dead && !dead.version.image) ledger.ended.push(dead.version);
}

/** A verdict that is out, and unseen by who wrote this, says something else of the row than what it is now. */
function tell(batch: Batch, { after, oldName, newName }: RowChange, wasHere: boolean): void {
  const { renewals } = batch.node.history;
  const { current } = batch.node;
  if (batch.role !== "primary") return;
  // What the change left alone may not be what its writer had.
  const partial = wasHere && !("b" in after!) && renewals.lastUnseen(oldName, current) !== null;
  // The version that was renewed is gone, and this is another.
  const ended = (!wasHere || newName !== oldName) && renewals.isUnseen(newName, current);
  if (partial && batch.keeps("verdict about large values")) batch.owe(newName, false);
  if (ended && batch.keeps("end of a renewal")) batch.owe(newName, false);
}

export function imageOver(after: Image | null, here: Row | null): Image | null {
  return after && { ...here?.version.image, ...after };
}

/**
 * A large value that the change did not touch is asked of the peer. null: its row is not as the change left it any more,
 * or is another; what came after is on its way, and can be had whole.
 */
export function wholeImage(batch: Batch, name: string, after: Image): Image | null {
  if ("b" in after) return after;
  const fetched = alive(batch.peer.rows.get(name))?.image ?? null;
  if (batch.keeps("large values of the same version")) return sameImage(after, fetched) ? fetched : null;
  return fetched && { ...fetched, ...after };
}

export function mixed({ version, newName }: RowChange, here: Row | null, image: Image, time = version.time): Version {
  if (!here) return { ...version, id: -1, name: newName, image, parents: [version], by: "merge" };
  const sources: Record<string, Version> = {};
  for (const column in image) {
    sources[column] = image[column] === version.image![column] ? version : here.version;
  }
  return { id: -1, name: newName, time, image, parents: [version, here.version], by: "merge", sources };
}
