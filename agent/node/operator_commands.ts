// What an operator may order about who serves, as operations of the admin API: switchover, failover, maintenance. An order
// is durable before it is carried out, by the machine on both nodes; here it is only given, and waited for.
import { setTimeout as delay } from "node:timers/promises";
import { getLogger } from "@logtape/logtape";
import { z } from "zod";
import { type AdminOperation, adminOperation } from "../api/admin_routes.ts";
import { AgentError, RefusedError, UnreachableError } from "../errors.ts";
import { type Role, roles, type State } from "../report.ts";
import {
  checkFailover,
  checkMaintenance,
  isSwitchedOver,
  notInTime,
  type PairSight,
  planSwitchover,
} from "../role/commands.ts";
import { type PeerContact, systemClock } from "../role/heartbeat.ts";
import { orderMaintenance, orderServing } from "../role/orders.ts";
import type { Supervisor } from "../role/supervisor.ts";

export interface OperatorParts {
  readonly name: string;
  readonly peerName: string;
  readonly afterMs: number;
  readonly supervisor: Pick<Supervisor, "record" | "health" | "order" | "failover">;
  readonly contact: () => PeerContact;
  /** A heartbeat now. */
  readonly tellPeer: () => void;
  readonly database: () => { readonly writable: boolean } | null;
  readonly pendingBytes: () => number | null;
  readonly mergeHeld: () => boolean;
  readonly prepared: () => Promise<readonly string[]>;
}

/** The answer of each; what a script may hold on to. */
export interface Ordered {
  readonly node: { readonly name: string; readonly role: Role; readonly state: State; readonly writable: boolean };
  readonly peer: { readonly name: string; readonly state: State | null; readonly reachable: boolean };
  /** Who is to serve if both can. */
  readonly serves: Role;
  readonly maintenance: boolean;
  readonly seconds: number;
}

const log = getLogger(["hapair", "operator"]);
const pollMs = 50;
/** How long the other node may take to note an order, and this one to open its guard. */
const noteMs = 15_000;

const nothing = z.strictObject({});
const switchoverInput = z.strictObject({ to: z.enum(roles).optional(), timeout_seconds: z.int().min(1).max(86_400) });
const maintenanceInput = z.strictObject({ on: z.boolean() });

/** `ready`: throws while the node is still starting. */
export function operatorCommands(ready: () => OperatorParts): AdminOperation[] {
  return [
    adminOperation(
      "/switchover",
      switchoverInput,
      ({ to, timeout_seconds }) => timed(ready(), (parts) => switchover(parts, to, timeout_seconds)),
    ),
    adminOperation("/failover", nothing, () => timed(ready(), failover)),
    adminOperation("/maintenance", maintenanceInput, ({ on }) => timed(ready(), (parts) => maintain(parts, on))),
  ];
}

async function timed(parts: OperatorParts, run: (parts: OperatorParts) => Promise<void>): Promise<Ordered> {
  const began = performance.now();
  await run(parts);
  const { name, record, writable, peer } = sightOf(parts);
  return {
    node: { name, role: record.role, state: record.state, writable },
    peer: { name: peer.name, state: peer.report?.state ?? null, reachable: peer.reachable },
    serves: record.orders.serves.role,
    maintenance: record.orders.maintenance.on,
    seconds: Number(((performance.now() - began) / 1000).toFixed(3)),
  };
}

async function switchover(parts: OperatorParts, asked: Role | undefined, seconds: number): Promise<void> {
  const { supervisor } = parts;
  await askPeer(parts);
  const { to, order } = planSwitchover(sightOf(parts, await parts.prepared()), asked);
  const before = supervisor.record.orders.serves.role;
  if (order) {
    log.info("an operator asks for a switchover to the {to}", { to });
    await supervisor.order((orders, by) => orderServing(orders, by, to));
  }
  const over = await until(seconds * 1000, () => {
    const sight = sightOf(parts);
    return isSwitchedOver(sight, to) || sight.record.orders.serves.role !== to;
  });
  if (supervisor.record.orders.serves.role !== to) {
    throw new AgentError(
      `Cannot switch over to the ${to}: it was called off; ${supervisor.record.why}`,
      "see agent status and the logs on both nodes; then the same again",
    );
  }
  if (over) return;
  if (order && before !== to) await supervisor.order((orders, by) => orderServing(orders, by, before));
  throw notInTime(sightOf(parts), to, seconds);
}

async function failover(parts: OperatorParts): Promise<void> {
  await askPeer(parts);
  checkFailover(sightOf(parts));
  log.warn("an operator asks for a failover to this node");
  if (!await parts.supervisor.failover()) {
    const { state, why } = parts.supervisor.record;
    throw new RefusedError(`Cannot fail over: this node stays ${state}: ${why}`, "see agent status and the log");
  }
  const opened = await until(noteMs, () => parts.database()?.writable === true);
  if (opened) return;
  throw new AgentError("Cannot fail over: this node serves, but takes no writes yet", "see the log of the agent");
}

async function maintain(parts: OperatorParts, on: boolean): Promise<void> {
  const { supervisor, contact, peerName } = parts;
  await askPeer(parts);
  const sight = sightOf(parts);
  checkMaintenance(sight, on);
  if (supervisor.record.orders.maintenance.on !== on) {
    log.warn(on ? "maintenance begins: no automatic failover" : "maintenance is over: failovers are automatic");
    await supervisor.order((orders, by) => orderMaintenance(orders, by, on));
  }
  if (!sight.peer.reachable) return;
  const { number } = supervisor.record.orders.maintenance;
  const noted = await until(noteMs, () => {
    const theirs = contact().report?.orders.maintenance.number ?? -1;
    if (theirs < number) parts.tellPeer();
    return theirs >= number;
  });
  if (noted) return;
  throw new UnreachableError(
    `Cannot be sure of the maintenance: it is ${on ? "on" : "off"} here, but ${peerName} has not noted it`,
    `see agent status on ${peerName}; it notes it as soon as it is reached`,
  );
}

/** A heartbeat that is sent from now on is answered, or the peer is known to be silent: an operator acts on no old word. */
async function askPeer({ contact, tellPeer, afterMs }: OperatorParts): Promise<void> {
  const asked = systemClock.monotonic();
  tellPeer();
  await until(2 * afterMs + 1000, () => {
    const { askedAt, silentMs, missed, refusal } = contact();
    const answered = askedAt !== null && askedAt >= asked;
    return answered || refusal !== null || silentMs >= afterMs && missed >= 2;
  });
}

function sightOf(parts: OperatorParts, prepared: readonly string[] = []): PairSight {
  const { name, peerName, afterMs, supervisor, contact, database, pendingBytes, mergeHeld } = parts;
  const { report, silentMs, failure, refusal } = contact();
  return {
    name,
    record: supervisor.record,
    databaseOk: supervisor.health.databaseOk && !supervisor.health.diskFull,
    writable: database()?.writable === true,
    pendingBytes: pendingBytes(),
    holdsMerge: mergeHeld(),
    prepared,
    peer: {
      name: peerName,
      reachable: report !== null && silentMs < afterMs && refusal === null,
      failure,
      refuses: refusal !== null,
      report,
    },
  };
}

/** Whether it came true in time. */
async function until(ms: number, isSo: () => boolean): Promise<boolean> {
  const end = performance.now() + ms;
  for (;;) {
    if (isSo()) return true;
    if (performance.now() >= end) return false;
    await delay(pollMs);
  }
}
