// The decision: record + observation -> next record, what to do once, and why. Pure: no clock, no I/O, no memory of its own.
import type { Role } from "../report.ts";
import { newerOrders, type Orders, orderServing } from "./orders.ts";
import type { Action, Observation, Record, Settings } from "./states.ts";
import { withTakeover } from "./steadiness.ts";
import { givesUpSwitchover, givesWayForRoom, type Transition, transitions } from "./transitions.ts";

export interface Step {
  readonly record: Record;
  readonly actions: readonly Action[];
  /** The sentence of the row that was taken; null if none was. */
  readonly why: string | null;
}

/** One step. At most one row is taken; the caller steps again for the next. `now` is for the record's times only. */
export function step(record: Record, seen: Observation, settings: Settings, now: number): Step {
  const noted = note(record, seen, settings);
  const row = transitions.find((one) =>
    one.role === noted.role && one.from === noted.state && one.when({ record: noted, seen, settings, now })
  );
  if (!row) return { record: noted, actions: [], why: null };
  const epoch = nextEpoch(noted, row);
  const orders = row.endsSwitchover ? calledOff(noted) : noted.orders;
  const takeovers = row.takesOver ? withTakeover(noted.takeovers, now) : noted.takeovers;
  const next: Record = { ...noted, state: row.to, epoch, since: now, why: row.comment, orders, takeovers };
  const actions: Action[] = [{ kind: "announce", from: row.from, to: row.to, epoch, why: row.comment }];
  // A fence belongs to one draining; standing by keeps it for the primary to see.
  if (row.to !== "standby") actions.push({ kind: "forget_fence" });
  actions.push({ kind: "tell_peer" });
  return { record: next, actions, why: row.comment };
}

/**
 * The record with which an agent starts. A primary looks first who serves, unless it is handing over: then the secondary
 * may begin to serve at any moment. A secondary goes on where it was.
 */
export function restarted(record: Record, now: number): Record {
  if (record.role !== "primary" || (record.state !== "serving" && record.state !== "catching_up")) return record;
  return { ...record, state: "starting", since: now, why: "the agent started" };
}

/** What is learnt without a change of state. The same object if nothing is. */
function note(record: Record, seen: Observation, settings: Settings): Record {
  const peerServed = seen.peer?.state === "serving" || seen.peer?.state === "draining";
  const inSync = record.inSync || (record.state === "standby" && seen.level && peerServed);
  const highest = Math.max(record.epoch, seen.peer?.epoch ?? 0);
  // Who served through a split comes out of it as the one that serves: in an epoch of its own. That is the primary, unless
  // it has no room, or a secondary that was ordered to.
  const leads = record.role === "primary" && !givesWayForRoom({ record, seen, settings }) ||
    record.role === "secondary" && record.orders.serves.role === "secondary" && seen.peer?.state !== "serving";
  const serves = leads && record.state === "serving";
  const epoch = serves ? ownEpochAbove(highest - 1, record.role) : highest;
  const newer = { ...record, orders: newerOrders(record.orders, seen.peer?.orders) };
  const orders = givesUpSwitchover({ record: newer, seen, settings }) ? calledOff(newer) : newer.orders;
  const same = inSync === record.inSync && epoch === record.epoch && orders === record.orders;
  return same ? record : { ...record, inSync, epoch, orders };
}

function calledOff({ orders, role }: Record): Orders {
  return orders.serves.role === "primary" ? orders : orderServing(orders, role, "primary");
}

function nextEpoch({ epoch, role }: Record, row: Transition): number {
  if (!row.epoch || (row.epoch === "raise_unless_own" && epoch > 0 && isOwnEpoch(epoch, role))) return epoch;
  return ownEpochAbove(epoch, role);
}

function isOwnEpoch(epoch: number, role: Role): boolean {
  return epoch % 2 === (role === "primary" ? 1 : 0);
}

function ownEpochAbove(epoch: number, role: Role): number {
  return isOwnEpoch(epoch + 1, role) ? epoch + 1 : epoch + 2;
}
