// Two state machines over a lossy link, with databases, WAL and heartbeats as plain numbers: for histories by the thousand.
// Time is a counter of milliseconds; each tick is one heartbeat. Asserts after each act that the guard obeys the state.
import assert from "node:assert/strict";
import { restarted, step } from "../../agent/role/machine.ts";
import { duties, firstRecord, type Observation, type PeerView, type Record } from "../../agent/role/states.ts";
import type { Role } from "../../agent/report.ts";
import { orderMaintenance, orderServing } from "../../agent/role/orders.ts";
import { outageMisses } from "../../agent/role/steadiness.ts";
import { settings } from "./observation.ts";

export const tickMs = 500;

/** What happens before a tick. */
export type Event =
  | { kind: "link"; up: boolean }
  | { kind: "agent"; who: Role; up: boolean }
  | { kind: "database"; who: Role; up: boolean }
  | { kind: "disk"; who: Role; full: boolean }
  /** An application prepares a transaction, or commits what it has prepared. */
  | { kind: "prepared"; who: Role; open: boolean }
  /** The agent dies right after its record of the next step is persisted, before anything is done about it. */
  | { kind: "crash_at_next_step"; who: Role }
  /** The process stands still for some ticks. */
  | { kind: "pause"; who: Role; ticks: number }
  /** An operator holds the merge at the primary, or lets it go on. */
  | { kind: "hold"; on: boolean }
  /** An operator orders a switchover, or maintenance, at a node; or a failover to it. */
  | { kind: "switchover"; who: Role; to: Role }
  | { kind: "maintenance"; who: Role; on: boolean }
  | { kind: "failover"; who: Role };

export class NodeModel {
  record: Record;
  agentUp = true;
  databaseUp = true;
  diskFull = false;
  preparedOpen = false;
  guardOpen = false;
  captures = false;
  crashNext = false;
  pausedTicks = 0;
  holdsMerge = false;
  failoverAsked = false;
  /** What it has still to take from the peer; null while the stream does not flow. */
  pending: number | null = null;
  wal = 1000;
  /** How far the peer's stream is applied here. */
  applied = 1000;
  fence: number | null = null;
  peer: { view: Omit<PeerView, "knowsOurState">; at: number; askedAt: number } | null = null;
  unwellSince: number | null = null;
  steadySince: number | null = null;
  missed = 0;
  startedAt = 0;
  enteredAt = 0;
  enteredHere = false;
  databaseGoneSince: number | null = null;

  constructor(readonly role: Role) {
    this.record = firstRecord(role, 0);
    this.captures = role === "primary";
  }

  get alive(): boolean {
    return this.agentUp && this.pausedTicks === 0;
  }

  startAgent(now: number): void {
    this.agentUp = true;
    this.record = restarted(this.record, now);
    this.peer =
      this.fence =
      this.unwellSince =
      this.steadySince =
      this.databaseGoneSince =
        null;
    this.missed = 0;
    this.startedAt = this.enteredAt = now;
    this.enteredHere = false;
  }

  report(applied: number): Omit<PeerView, "knowsOurState" | "unwellMs"> {
    return {
      state: this.record.state,
      epoch: this.record.epoch,
      databaseOk: this.databaseUp && !this.diskFull,
      appliedLsn: BigInt(applied),
      fenceLsn: this.fence === null ? null : BigInt(this.fence),
      pendingBytes: this.pending,
      holdsMerge: this.holdsMerge,
      orders: this.record.orders,
    };
  }

  hear(other: NodeModel, now: number): void {
    const report = other.report(other.applied);
    if (report.databaseOk) this.unwellSince = null;
    else this.unwellSince ??= now;
    const unwellMs = this.unwellSince === null ? 0 : now - this.unwellSince;
    this.peer = { view: { ...report, unwellMs }, at: now, askedAt: now };
    this.missed = 0;
    this.steadySince = report.databaseOk ? this.steadySince ?? now : null;
  }

  miss(): void {
    if (++this.missed >= outageMisses) this.steadySince = null;
  }

  turn(now: number, level: boolean): void {
    if (this.databaseUp) this.databaseGoneSince = null;
    else this.databaseGoneSince ??= now;
    for (let steps = 0; steps < 5; steps++) {
      const { record, actions } = step(this.record, this.#gather(now, level), settings, now);
      const changed = record.state !== this.record.state;
      const persisted = changed || record.orders !== this.record.orders;
      this.record = record;
      this.failoverAsked &&= !changed;
      if (persisted && this.crashNext) {
        this.crashNext = false;
        this.agentUp = false;
        return;
      }
      if (changed) this.enteredAt = now;
      this.enteredHere ||= changed;
      // Odd epochs are the primary's, even ones the secondary's: so no epoch has two servers.
      if (record.state === "serving" && (changed || this.role === "primary")) {
        assert.equal(record.epoch % 2, this.role === "primary" ? 1 : 0, `epoch ${record.epoch} is not its own`);
      }
      if (actions.some((action) => action.kind === "forget_fence")) this.fence = null;
      if (actions.length === 0) break;
      assert.ok(steps < 4, "the machine runs in circles");
    }
    this.#assertDuties();
  }

  /** The guard does not see it: it was opened when the transaction wrote. */
  commitPrepared(): void {
    if (!this.preparedOpen || !this.databaseUp) return;
    assert.equal(this.fence, null, "something commits behind the fence");
    this.preparedOpen = false;
    this.wal += 100;
  }

  #gather(now: number, level: boolean): Observation {
    return {
      peerExpected: true,
      peer: this.peer && { ...this.peer.view, knowsOurState: this.peer.askedAt >= this.enteredAt },
      peerSilentMs: now - (this.peer?.at ?? this.startedAt),
      missedHeartbeats: this.missed,
      peerRefuses: false,
      peerSteadyMs: this.steadySince === null ? 0 : now - this.steadySince,
      inStateMs: now - this.enteredAt,
      enteredHere: this.enteredHere,
      databaseOk: this.databaseUp,
      databaseGoneMs: this.databaseGoneSince === null ? 0 : now - this.databaseGoneSince,
      diskFull: this.diskFull,
      appliedLsn: BigInt(this.applied),
      currentLsn: BigInt(this.wal),
      preparedOpen: this.preparedOpen,
      fenceLsn: this.fence === null ? null : BigInt(this.fence),
      level,
      failoverAsked: this.failoverAsked,
    };
  }

  #assertDuties(): void {
    if (!this.databaseUp) return;
    const { guard, capture } = duties(this.record);
    if (guard === "closed" || guard === "fenced") this.guardOpen = false;
    if (guard === "fenced" && !this.preparedOpen) this.fence ??= this.wal;
    this.captures = capture;
    if (guard === "open") {
      assert.ok(this.captures);
      this.guardOpen = true;
    }
    if (["standby", "draining", "catching_up"].includes(this.record.state)) assert.equal(this.guardOpen, false);
  }
}

export class PairModel {
  readonly primary = new NodeModel("primary");
  readonly secondary = new NodeModel("secondary");
  linkUp = true;
  now = 0;

  get nodes(): readonly NodeModel[] {
    return [this.primary, this.secondary];
  }

  happen(event: Event): void {
    if (event.kind === "link") {
      this.linkUp = event.up;
      return;
    }
    if (event.kind === "hold") {
      this.primary.holdsMerge = event.on;
      return;
    }
    const node = this[event.who];
    switch (event.kind) {
      case "agent":
        if (event.up && !node.agentUp) node.startAgent(this.now);
        else if (!event.up) node.agentUp = false;
        return;
      case "database":
        // A new postmaster is closed until its agent opens it.
        if (!event.up) node.guardOpen = false;
        node.databaseUp = event.up;
        return;
      case "disk":
        node.diskFull = event.full;
        return;
      case "prepared":
        if (!event.open) node.commitPrepared();
        else if (node.guardOpen && node.databaseUp) node.preparedOpen = true;
        return;
      case "crash_at_next_step":
        node.crashNext = true;
        return;
      case "pause":
        node.pausedTicks = event.ticks;
        return;
      case "switchover":
        if (node.alive) {
          this.#order(node, { ...node.record, orders: orderServing(node.record.orders, node.role, event.to) });
        }
        return;
      case "maintenance":
        if (!node.alive) return;
        this.#order(node, { ...node.record, orders: orderMaintenance(node.record.orders, node.role, event.on) });
        return;
      case "failover":
        node.failoverAsked = node.alive;
    }
  }

  #order(node: NodeModel, record: Record): void {
    node.record = record;
    if (!node.crashNext) return;
    node.crashNext = false;
    node.agentUp = false;
  }

  /** One heartbeat in each direction, unless it is lost; some WAL; some of it applied; a turn of each machine. */
  tick(lost: boolean): void {
    this.now += tickMs;
    const { primary, secondary } = this;
    const linked = this.linkUp && !lost && primary.alive && secondary.alive;
    for (const node of this.nodes) {
      if (node.guardOpen && node.databaseUp) node.wal += 300;
    }
    const flows = linked && primary.databaseUp && secondary.databaseUp;
    if (flows) {
      if (!primary.holdsMerge) primary.applied = Math.min(secondary.wal, primary.applied + 700);
      secondary.applied = Math.min(primary.wal, secondary.applied + 700);
    }
    primary.pending = flows && !primary.holdsMerge ? secondary.wal - primary.applied : null;
    secondary.pending = flows ? primary.wal - secondary.applied : null;
    for (const [node, other] of [[primary, secondary], [secondary, primary]]) {
      if (node.pausedTicks > 0) {
        node.pausedTicks--;
        continue;
      }
      if (!node.agentUp) continue;
      if (linked) node.hear(other, this.now);
      else node.miss();
      const before = node.record.state;
      node.turn(this.now, flows && other.wal - node.applied < 1000);
      node.failoverAsked = false;
      if (node.record.state === "serving" && node.record.why.includes("has handed over")) {
        assert.ok(
          before !== "standby" || secondary.applied >= (primary.fence ?? 0),
          "it serves before it has everything",
        );
      }
      if (before === "draining" && node.record.state === "standby") {
        assert.ok(primary.applied >= secondary.wal, "it stands by before the primary has everything");
      }
    }
  }

  /** Everything is up and stays so. */
  heal(): void {
    this.linkUp = true;
    for (const node of this.nodes) node.failoverAsked = false;
    this.primary.holdsMerge = false;
    for (const node of this.nodes) {
      node.crashNext = false;
      node.pausedTicks = 0;
      node.databaseUp = true;
      node.diskFull = false;
      node.commitPrepared();
      if (!node.agentUp) node.startAgent(this.now);
    }
  }
}
