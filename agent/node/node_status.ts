// Gathers what `agent status` is made of from a node's parts. Plain figures only; monitor/status.ts says what they mean.
import type { Config } from "../config.ts";
import { parseLsn } from "../change/lsn.ts";
import { timeToMs } from "../change/pgoutput.ts";
import type { StatusInput } from "../monitor/status.ts";
import type { PeerContact } from "../role/heartbeat.ts";
import type { Record } from "../role/states.ts";
import { steadyNeeded, takeoversOfLate } from "../role/steadiness.ts";
import { heldMessage } from "./merge_hold.ts";
import { agentVersion } from "../version.ts";
import type { ConflictFigures } from "./conflict_counts.ts";
import type { DatabaseView } from "./database.ts";
import type { Replication } from "./replication.ts";
import type { Trouble } from "./troubles.ts";

export interface NodeParts {
  readonly config: Config;
  readonly record: Record;
  readonly view: DatabaseView | null;
  /** It answers now. */
  readonly databaseOk: boolean;
  readonly conflicts: ConflictFigures;
  readonly key: StatusInput["key"];
  /** Those that end soon. */
  readonly certificates: StatusInput["problems"];
  readonly url: string;
  readonly contact: PeerContact;
  readonly replication: ReturnType<Replication["status"]>;
  /** What the peer has still to send, in bytes; null if that is not known. */
  readonly incomingBytes: number | null;
  readonly troubles: readonly Trouble[];
  /** ISO; null: it is not held. */
  readonly mergeHeldSince: string | null;
}

export function statusInput(parts: NodeParts): StatusInput {
  const { config, record, view, contact, replication, databaseOk, conflicts } = parts;
  const theirs = contact.report;
  const current = view?.currentLsn ?? 0n;
  return {
    node: {
      name: config.node.name,
      role: record.role,
      state: record.state,
      writable: databaseOk && view?.writable === true,
      epoch: record.epoch,
      since: record.since,
      why: record.why,
    },
    peer: {
      name: config.peer.name,
      role: record.role === "primary" ? "secondary" : "primary",
      state: theirs?.state ?? null,
      databaseOk: theirs?.database_ok ?? null,
      diskFull: theirs?.disk_full ?? false,
      version: theirs?.agent_version ?? null,
      reachable: theirs !== null && contact.silentMs < config.failover.after_ms,
      lastSeen: contact.lastSeen,
      clockSkewMs: contact.clockSkewMs,
      refusal: contact.refusal,
      failure: contact.failure,
    },
    database: { running: databaseOk, version: view?.version ?? null, url: parts.url },
    outgoing: {
      currentLsn: current,
      peerAppliedLsn: theirs ? parseLsn(theirs.applied_lsn) : null,
      restartLsn: view === null || view.retainedWalBytes === 0 ? null : current - BigInt(view.retainedWalBytes),
      pendingTransactions: replication.pendingTransactions,
      oldestPendingAt: replication.oldestPending === null ? null : timeToMs(replication.oldestPending),
    },
    incoming: {
      appliedLsn: replication.applied,
      pendingBytes: replication.connected ? parts.incomingBytes : null,
      behindSince: behindSince(parts),
    },
    merge: {
      active: replication.capturing && theirs?.capturing === true,
      mergedTransactions: replication.transactions,
      conflicts: conflicts.total,
    },
    conflicts,
    key: parts.key,
    agentVersion,
    problems: [
      ...mergeHeld(parts),
      ...ordered(parts),
      ...prepared(parts),
      ...flapping(parts),
      ...parts.certificates,
      ...parts.troubles.map(({ name, message, remedy, severity = "error" }) => ({
        name,
        severity,
        message: `${message}. Try: ${remedy}`,
      })),
    ],
  };
}

/** A hold, or at the secondary that the primary takes in nothing for now. */
function mergeHeld({ config, record, contact, mergeHeldSince, replication }: NodeParts): StatusInput["problems"] {
  const held = (message: string) => [{ name: "merge_held", severity: "warning" as const, message }];
  if (record.role === "primary") {
    return mergeHeldSince === null ? [] : held(heldMessage({ ...config.node, state: record.state }, mergeHeldSince));
  }
  if (!contact.report?.merge_held || !replication.capturing) return [];
  return held("the primary holds the merge: nothing of this node's is applied there. Try: agent merge, on the primary");
}

/** What operators have ordered, on both nodes alike. */
function ordered({ config: { node, peer }, record: { role, orders } }: NodeParts): StatusInput["problems"] {
  const secondary = role === "secondary" ? node.name : peer.name;
  const found: StatusInput["problems"][number][] = [];
  if (orders.maintenance.on) {
    const message = `maintenance is on: ${secondary} does not take over by itself. Try: agent maintenance off`;
    found.push({ name: "maintenance", severity: "warning", message });
  }
  if (orders.serves.role === "secondary") {
    const message = `an operator has ordered that ${secondary} serves. Try: agent switchover --to primary, to end that`;
    found.push({ name: "switched_over", severity: "warning", message });
  }
  return found;
}

/** Who serves cannot hand over, because of transactions that belong to no session any more. */
function prepared({ config, record, view }: NodeParts): StatusInput["problems"] {
  const count = view?.prepared ?? 0;
  const handsOver = record.state === "handing_back" || record.state === "draining" ||
    record.role === "primary" && record.state === "serving" && record.orders.serves.role === "secondary";
  if (count === 0 || !handsOver) return [];
  const open = count === 1 ? "1 prepared transaction is" : `${count} prepared transactions are`;
  const message = `${open} open here, so nothing is handed over to ${config.peer.name}. ` +
    "Try: COMMIT PREPARED or ROLLBACK PREPARED, see pg_prepared_xacts";
  return [{ name: "prepared", severity: "warning", message }];
}

/** The secondary does not hand back yet, though the primary has what it needs: why not. */
function flapping({ config, record, contact }: NodeParts): StatusInput["problems"] {
  const times = takeoversOfLate(record.takeovers, Date.now());
  if (record.state !== "handing_back" || times < 2) return [];
  const needed = steadyNeeded(record.takeovers, Date.now(), config.failover.steady_ms);
  if (contact.steadyMs >= needed) return [];
  const message =
    `${config.peer.name} was lost ${times} times within ten minutes: it serves again once it has been in ` +
    `sight for ${Math.round(needed / 1000)} s without a break. Try: see why the link or the primary fails`;
  return [{ name: "flapping", severity: "warning", message }];
}

/** Since when something of the peer's waits to be applied: for as long as applying is in trouble, if it is. */
function behindSince({ troubles, incomingBytes, replication }: NodeParts): number | null {
  const stopped = troubles.find(({ name }) => name === "apply");
  if (stopped) return stopped.since.getTime();
  return incomingBytes ? Date.now() - replication.lagSeconds * 1000 : null;
}
