// What an operator may ask for in which state: refusals with their reasons, and when it is done. Pure: looks at what was
// gathered, changes nothing.
import { AgentError, RefusedError, UnreachableError } from "../errors.ts";
import type { NodeReport, Role, State } from "../report.ts";
import type { Record } from "./states.ts";

/** The pair as this node sees it now. */
export interface PairSight {
  readonly name: string;
  readonly record: Record;
  readonly databaseOk: boolean;
  readonly writable: boolean;
  /** What it has still to take from the peer, in bytes; null while the stream does not flow. */
  readonly pendingBytes: number | null;
  readonly holdsMerge: boolean;
  /** Transactions prepared for two-phase commit: a fence cannot wait for them. */
  readonly prepared: readonly string[];
  readonly peer: {
    readonly name: string;
    readonly reachable: boolean;
    /** Why it does not answer, or why it says that the two do not belong together; null if it is not known. */
    readonly failure: string | null;
    readonly refuses: boolean;
    readonly report: NodeReport | null;
  };
}

/** A switchover is not begun with more than this on its way: writes would be refused while it goes over. */
export const mostPendingBytes = 16 * 1024 * 1024;

const writableStates: readonly State[] = ["serving", "handing_back"];

interface Sides {
  readonly primary: { name: string; state: State; databaseOk: boolean };
  readonly secondary: { name: string; state: State; databaseOk: boolean };
}

function sidesOf({ name, record, databaseOk, peer }: PairSight): Sides {
  const here = { name, state: record.state, databaseOk };
  const there = { name: peer.name, state: peer.report!.state, databaseOk: peer.report!.database_ok };
  return record.role === "primary" ? { primary: here, secondary: there } : { primary: there, secondary: here };
}

/** To whom a switchover goes, and whether that has still to be ordered. `asked`: left out, to whoever does not serve. */
export function planSwitchover(sight: PairSight, asked?: Role): { to: Role; order: boolean } {
  const { peer, record } = sight;
  if (!peer.reachable || !peer.report) {
    throw new UnreachableError(
      `Cannot switch over: ${peer.name} does not answer${because(peer.failure)}`,
      "start it; if it is lost, agent failover on the node that is to serve",
    );
  }
  const sides = sidesOf(sight);
  const { primary, secondary } = sides;
  for (const { name, databaseOk } of [primary, secondary]) {
    if (!databaseOk) {
      throw new RefusedError(
        `Cannot switch over: the database of ${name} does not answer, or has no room`,
        "agent status on it",
      );
    }
  }
  if (primary.state === "serving" && writableStates.includes(secondary.state)) {
    throw new RefusedError("Cannot switch over: both nodes serve and merge", "wait until agent status shows one");
  }
  const from = whoServes(sides);
  if (from === null) throw nobodyServes(sides);
  const to = asked ?? (from === "primary" ? "secondary" : "primary");
  const ordered = record.orders.serves.role === to;
  if (to === from) return { to, order: mayStay(sides, to, ordered) };
  if (to === "secondary") refuseToSecondary(sight, sides);
  else refuseToPrimary(sight, sides);
  if (sight.prepared.length > 0 && record.role === from) {
    throw new RefusedError(
      `Cannot switch over: ${sight.prepared.length} prepared transactions are open: ${list(sight.prepared)}`,
      "COMMIT PREPARED or ROLLBACK PREPARED them first",
    );
  }
  return { to, order: !ordered };
}

/** Who serves, or is just handing over. */
function whoServes({ primary, secondary }: Sides): Role | null {
  if ([...writableStates, "draining"].includes(secondary.state)) return "secondary";
  return primary.state === "serving" || primary.state === "draining" ? "primary" : null;
}

function nobodyServes({ primary, secondary }: Sides): RefusedError {
  return new RefusedError(
    `Cannot switch over: nobody serves: the primary is ${primary.state}, the secondary ${secondary.state}`,
    "wait a moment and see agent status",
  );
}

/** Who serves may be told to go on where it would hand over otherwise. */
function mayStay({ primary, secondary }: Sides, to: Role, ordered: boolean): true {
  const leaving = to === "primary" ? primary.state === "draining" : writableStates.includes(secondary.state);
  if (leaving && !ordered) return true;
  const { name, state } = to === "primary" ? primary : secondary;
  if (to === "secondary" && state === "draining") {
    throw new RefusedError(
      `Cannot switch over: ${name} is handing back at this moment`,
      "the same again when it is done",
    );
  }
  throw new RefusedError(
    `Cannot switch over to the ${to}: ${name} serves already`,
    `agent switchover --to ${to === "primary" ? "secondary" : "primary"}, if the other is meant`,
  );
}

function refuseToSecondary({ record, pendingBytes, peer }: PairSight, { secondary }: Sides): void {
  const { name, state } = secondary;
  if (state !== "standby") {
    throw new RefusedError(
      `Cannot switch over: ${name} is ${state}, not in standby`,
      "wait, and see agent status there",
    );
  }
  const pending = record.role === "secondary" ? pendingBytes : peer.report!.incoming_pending_bytes;
  if (pending === null) {
    throw new RefusedError(`Cannot switch over: ${name} takes in no changes now`, "see agent status on both nodes");
  }
  if (pending > mostPendingBytes || record.role === "secondary" && !record.inSync) {
    const behind = pending > mostPendingBytes ? `is ${Math.round(pending / 1e6)} MB behind` : "has never been level";
    throw new RefusedError(`Cannot switch over: ${name} ${behind}`, "wait until it has caught up");
  }
}

function refuseToPrimary({ record, holdsMerge, peer }: PairSight, { primary }: Sides): void {
  const { name, state } = primary;
  if (state !== "catching_up" && state !== "draining") {
    throw new RefusedError(`Cannot switch over: ${name} is ${state}`, "wait a moment and see agent status there");
  }
  if (record.role === "primary" ? holdsMerge : peer.report!.merge_held) {
    throw new RefusedError(
      `Cannot switch over: the merge is held at ${name}, so it would never be level`,
      `agent merge --release on ${name}`,
    );
  }
}

/** The switchover has come to its end, as far as this node can see. */
export function isSwitchedOver({ record, writable, peer: { reachable, report } }: PairSight, to: Role): boolean {
  const there = reachable ? report : null;
  if (record.role === to) {
    return record.state === "serving" && writable && (there === null || !writableStates.includes(there.state));
  }
  return there?.state === "serving" && there.writable && !writableStates.includes(record.state);
}

/** Throws where a failover to this node would hurt more than it helps. */
export function checkFailover({ name, record, databaseOk, peer }: PairSight): void {
  const { role, state, inSync } = record;
  if (writableStates.includes(state)) {
    throw new RefusedError(`Cannot fail over: ${name} serves already`, "agent status");
  }
  if (state === "draining") {
    throw new RefusedError(
      `Cannot fail over: ${name} is handing over`,
      "wait: it serves again by itself if the other is lost",
    );
  }
  if (!databaseOk) {
    throw new RefusedError(
      `Cannot fail over: the database of ${name} does not answer, or has no room`,
      "agent status on it",
    );
  }
  if (role === "secondary" && !inSync) {
    throw new RefusedError(
      `Cannot fail over: ${name} has never been level with its primary, so it lacks data`,
      `start ${peer.name}; if it is lost for good, restore a backup`,
    );
  }
  if (peer.refuses) {
    throw new RefusedError(
      `Cannot fail over: ${peer.name} is alive, but does not take ${name} for its peer${because(peer.failure)}`,
      "see [peer] in agent.toml on both servers",
    );
  }
  const { report } = peer;
  if (peer.reachable && report?.database_ok && report.state !== "failed" && report.state !== "seeding") {
    throw new RefusedError(
      `Cannot fail over: ${peer.name} can be reached and is ${report.state}; both would serve`,
      "agent switchover",
    );
  }
}

/** Throws where maintenance would promise what nobody keeps: only the secondary takes over by itself. */
export function checkMaintenance({ record, peer }: PairSight, on: boolean): void {
  if (!on || peer.reachable || record.role === "secondary") return;
  throw new UnreachableError(
    `Cannot begin maintenance: ${peer.name} does not answer${because(peer.failure)}, and may take over by itself`,
    `start it, or ask for it on ${peer.name}`,
  );
}

/** Ordered, but not done in time. */
export function notInTime({ record, peer }: PairSight, to: Role, seconds: number): AgentError {
  const there = peer.reachable ? peer.report?.state ?? "unknown" : "not to be reached";
  return new AgentError(
    `Cannot switch over to the ${to}: not done after ${seconds} s: this node is ${record.state}, its peer ${there}`,
    "it was called off; see agent status and the logs on both nodes",
  );
}

const because = (failure: string | null): string => failure === null ? "" : `: ${failure}`;

function list(names: readonly string[]): string {
  return names.slice(0, 3).join(", ") + (names.length > 3 ? ", ..." : "");
}
