// A pair of nodes, the link between them and their applications, taking one step after the other: for histories by the
// thousand, around the real decisions of agent/merge. What is wrong at the end is in invariants.ts.
import type { Role } from "../../../agent/merge/classify.ts";
import { type Work, work } from "./application.ts";
import { Batch, type Rule } from "./batch.ts";
import { applyChange } from "./changes.ts";
import { settleDangling } from "./dangling.ts";
import { Ledger } from "./ledger.ts";
import { acknowledge, connect, note, relay, restart } from "./link.ts";
import { Node } from "./node.ts";
import { applyTruncation } from "./truncation.ts";
import type { Rules } from "./values.ts";
import { applyVerdicts } from "./verdicts.ts";

export type Step =
  | { readonly do: "work"; readonly who: Role; readonly work: Work }
  | { readonly do: "begin" | "idle" | "note" | "reconnect"; readonly who: Role }
  | { readonly do: "relay" | "apply"; readonly who: Role; readonly count: number }
  | { readonly do: "restart"; readonly who: Role; readonly forgets: boolean }
  /** The applier's connection breaks at the end of a batch, before or after the commit. */
  | { readonly do: "fail"; readonly who: Role; readonly count: number; readonly committed: boolean };

export class World {
  readonly primary: Node;
  readonly secondary: Node;
  readonly ledger = new Ledger();

  constructor(readonly rules: Rules, skew: bigint, private readonly without: ReadonlySet<Rule> = new Set()) {
    this.primary = new Node("primary", rules, 0n);
    this.secondary = new Node("secondary", rules, skew);
    connect(this.primary, this.secondary);
    connect(this.secondary, this.primary);
  }

  get nodes(): readonly Node[] {
    return [this.primary, this.secondary];
  }

  peerOf = (node: Node): Node => node === this.primary ? this.secondary : this.primary;

  take(step: Step): void {
    const node = step.who === "primary" ? this.primary : this.secondary;
    const peer = this.peerOf(node);
    switch (step.do) {
      case "work":
        return work(node, this.ledger.versions, step.work);
      case "begin":
        node.begun.push(node.nextXid++);
        return;
      case "relay":
        for (let i = 0; i < step.count; i++) relay(node, peer);
        return;
      case "apply":
        return this.apply(node, step.count);
      case "idle":
        return this.recordIdle(node);
      case "note":
        return note(node, peer);
      case "reconnect":
        return connect(peer, node);
      case "fail":
        return this.fail(node, step.count, step.committed);
      case "restart":
        return restart(node, peer, step.forgets);
    }
  }

  /** Applies so many messages in one transaction, as agent/apply/applier.ts. */
  private apply(node: Node, count: number, ends: "commits" | "answer lost" = "commits"): void {
    const taken = node.received.splice(0, count);
    if (taken.length === 0) return;
    let position = node.applied, idle = true, passed = false;
    const batch = new Batch(node, this.peerOf(node), this.ledger, node.nextXid++, this.without);
    for (const { entry, seen, passes } of taken) {
      if (seen !== null && seen > node.current) node.current = seen;
      position = passes ? entry.end : entry.commit > position ? entry.commit : position;
      if (!entry.idle) idle = false;
      if (!passes) continue;
      passed = true;
      if (entry.of === null) {
        for (const change of entry.changes) {
          if (change.incoming === "truncate") applyTruncation(batch, change);
          else applyChange(batch, change);
        }
      }
      if (node.role === "secondary") applyVerdicts(batch, entry.verdicts);
      for (const question of entry.questions) batch.answer(question);
    }
    if (passed) {
      settleDangling(batch);
      node.clock += 1n;
      const verdicts = batch.verdicts(), questions = batch.questions();
      node.append({ xid: batch.xid, time: node.clock, of: position, idle: false, changes: [], verdicts, questions });
      if (ends === "commits") {
        node.history.renewals.committed();
        node.history.questions.committed();
      }
      node.applied = position;
      if (node.current > node.peerSeen) node.peerSeen = node.current;
      node.unrecorded = null;
    } else if (!idle) node.unrecorded = { position, seen: node.current };
    if (ends === "commits") acknowledge(node, node.current);
  }

  private fail(node: Node, count: number, committed: boolean): void {
    const { applied, peerSeen, clock } = node;
    const rows = new Map(node.rows);
    const [entries, mark] = [node.log.length, this.ledger.mark()];
    this.apply(node, count, "answer lost");
    if (!committed) {
      Object.assign(node, { applied, peerSeen, clock, rows });
      node.log.length = entries;
      node.reading = Math.min(node.reading, entries);
      this.ledger.restore(mark);
    }
    connect(this.peerOf(node), node);
    const { renewals, questions } = node.history;
    if (!renewals.undecided && !questions.undecided) return;
    note(node, this.peerOf(node));
    renewals.rolledBack();
    questions.rolledBack();
  }

  private recordIdle(node: Node): void {
    if (!node.unrecorded || node.received.length > 0) return;
    const { position, seen } = node.unrecorded;
    node.unrecorded = null;
    const nothing = { changes: [], verdicts: [], questions: [] };
    node.append({ xid: node.nextXid++, time: node.clock, of: position, idle: true, ...nothing });
    node.applied = position;
    if (seen > node.peerSeen) node.peerSeen = seen;
  }

  /** The node applies all that its peer has written. */
  catchUp(node: Node): void {
    connect(this.peerOf(node), node);
    while (relay(this.peerOf(node), node));
    this.apply(node, node.received.length);
  }

  /** Everything flows until nothing more does. */
  settle(): void {
    for (const node of this.nodes) connect(this.peerOf(node), node);
    for (let turn = 0; turn < 2000; turn++) {
      let moved = false;
      for (const node of this.nodes) {
        moved = relay(node, this.peerOf(node)) || moved;
        moved = node.received.length > 0 || moved;
        this.apply(node, 1);
        if (node.unrecorded && node.received.length === 0 && node.reading === node.log.length) this.recordIdle(node);
      }
      if (!moved) return;
    }
    this.ledger.faults.push("it never comes to rest");
  }
}
