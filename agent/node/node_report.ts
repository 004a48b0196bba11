// What this node says of itself in each heartbeat, gathered from its parts. Plain figures only: decides nothing.
import { formatLsn } from "../change/lsn.ts";
import type { Config } from "../config.ts";
import { type NodeReport, protocolVersion } from "../report.ts";
import type { PeerContact } from "../role/heartbeat.ts";
import type { Supervisor } from "../role/supervisor.ts";
import { agentVersion } from "../version.ts";
import type { PairFacts } from "../setup/database.ts";
import type { DatabaseView } from "./database.ts";
import type { Peer } from "./peer.ts";
import { configHash } from "./policies.ts";
import type { Replication } from "./replication.ts";

export interface ReportParts {
  readonly config: Config;
  readonly pair: PairFacts;
  /** null: the database did not answer. */
  readonly view: DatabaseView | null;
  readonly supervisor: Supervisor;
  readonly replication: Replication;
  readonly peer: Peer;
  readonly contact: PeerContact;
}

export function nodeReportOf({ config, pair, view, supervisor, replication, peer, contact }: ReportParts): NodeReport {
  const { state, epoch, orders } = supervisor.record;
  const { databaseOk, diskFull, unwellMs } = supervisor.health;
  const incoming = replication.status();
  return {
    name: config.node.name,
    role: config.node.role,
    state,
    epoch,
    pair_id: pair.pairId,
    generation: pair.generation,
    protocol: protocolVersion,
    agent_version: agentVersion,
    pg_version: view?.version ?? "",
    writable: databaseOk && view?.writable === true,
    database_ok: databaseOk && !diskFull,
    database_gone_ms: unwellMs,
    disk_full: diskFull,
    applied_lsn: formatLsn(incoming.applied),
    capturing: replication.capturing,
    fence_lsn: supervisor.fenceLsn === null ? null : formatLsn(supervisor.fenceLsn),
    incoming_pending_bytes: incoming.connected ? peer.pendingBytes(contact.report, incoming) : null,
    merge_held: replication.mergeHeld,
    orders,
    current_lsn: formatLsn(view?.currentLsn ?? 0n),
    clock_ms: Date.now(),
    config_hash: configHash(config),
  };
}
