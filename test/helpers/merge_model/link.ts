// The relays of the model and the link between them: follows agent/relay and agent/node/capture.ts step by step.
import { History } from "../../../agent/merge/history.ts";
import type { Node } from "./node.ts";
import { type Change, type Entry, ownSchema } from "./values.ts";

/** `to` pulls `from`'s stream anew; the slot's session begins where it was confirmed. */
export function connect(from: Node, to: Node): void {
  to.received.length = 0;
  to.current = to.peerSeen;
  to.unrecorded = null;
  from.after = to.applied;
  readFromConfirmed(from);
}

function readFromConfirmed(node: Node): void {
  node.reading = node.log.findIndex((entry) => entry.end > node.confirmed);
  if (node.reading < 0) node.reading = node.log.length;
}

/** Reads one entry of the log: notes it, and sends it if the peer wants it. */
export function relay(node: Node, peer: Node): boolean {
  const entry = node.log[node.reading];
  if (!entry) return false;
  node.reading++;
  if (entry.of === null && entry.end > node.acknowledged) noteOwn(node.history, entry);
  for (const { name, renews, time } of entry.verdicts) node.history.renewals.note(name, renews, entry.end, time);
  for (const { name } of entry.questions) node.history.questions.note(name, entry.end);
  if (node.after !== null && entry.commit >= node.after) {
    const passes = entry.of === null || entry.verdicts.length > 0 || entry.questions.length > 0;
    peer.received.push({ entry, seen: entry.of, passes });
  }
  return true;
}

function noteOwn(history: History, entry: Entry): void {
  history.noteCommit(entry.xid, entry.end, entry.time);
  for (const change of entry.changes) {
    if (change.incoming === "truncate") history.noteTruncate(ownSchema, change.table, entry.end, entry.time);
    else if (deletesOldRow(change)) history.noteDelete(change.oldName, entry.end, entry.time);
  }
}

const deletesOldRow = (change: Change): boolean =>
  change.incoming === "delete" || (change.incoming === "update" && change.oldName !== change.newName);

/** Reads on to the end; then the snapshot that was taken before counts. */
export function note(node: Node, peer: Node): void {
  const snapshot = node.snapshot();
  while (relay(node, peer));
  node.history.renewSnapshot(snapshot);
}

/** The peer has applied our log up to `seen`, and all it committed before that has been applied here. */
export function acknowledge(node: Node, seen: bigint): void {
  if (seen <= node.acknowledged) return;
  node.acknowledged = seen;
  node.history.prune(seen);
  node.durable = node.confirmed;
  if (seen > node.confirmed) node.confirmed = seen;
}

/** The agent starts anew: its history is rebuilt from the log, from where the slot was confirmed. */
export function restart(node: Node, peer: Node, forgets: boolean): void {
  // The server's own crash loses confirmations that no checkpoint has made durable.
  if (forgets) node.confirmed = node.durable;
  node.history = new History(node.snapshot());
  node.acknowledged = 0n;
  node.after = null;
  readFromConfirmed(node);
  // Nothing is applied before everything that was there is noted.
  note(node, peer);
  connect(peer, node);
  connect(node, peer);
}
