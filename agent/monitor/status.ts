// `agent status --json`: built from plain figures that were gathered before. Pure. Never shows a password.
import { formatLsn, type Lsn } from "../change/lsn.ts";
import type { Role, State } from "../report.ts";

export interface Alert {
  readonly name: string;
  readonly severity: "warning" | "error";
  /** ISO */
  readonly since: string;
  readonly message: string;
}

/** The answer of GET /status; what a script may hold on to. */
export interface Status {
  readonly node: {
    readonly name: string;
    readonly role: Role;
    readonly state: State;
    readonly writable: boolean;
    readonly epoch: number;
    readonly since: string;
    readonly why: string;
  };
  readonly peer: {
    readonly name: string;
    readonly role: Role;
    readonly state: State | null;
    readonly reachable: boolean;
    readonly last_seen: string | null;
    readonly clock_skew_ms: number | null;
  };
  readonly database: { readonly running: boolean; readonly version: string | null; readonly url: string };
  readonly outgoing: {
    readonly pending_bytes: number;
    readonly pending_transactions: number;
    readonly oldest_pending_seconds: number;
    readonly retained_wal_bytes: number;
  };
  readonly incoming: {
    readonly applied_lsn: string;
    readonly lag_seconds: number;
    /** null while the peer's stream does not flow: then nobody knows. */
    readonly pending_bytes: number | null;
  };
  readonly merge: { readonly active: boolean; readonly merged_transactions: number; readonly conflicts: number };
  readonly conflicts: {
    readonly total: number;
    readonly unreviewed: number;
    /** Unreviewed ones whose losing row stands in no table. */
    readonly quarantined: number;
  };
  readonly key: {
    readonly path: string;
    readonly ok: boolean;
    readonly same_as_peer: boolean | null;
    readonly problem: string | null;
  };
  readonly alerts: readonly Alert[];
}

/** Everything that status is made of. Times are milliseconds since 1970 on this node's clock. */
export interface StatusInput {
  readonly node: {
    readonly name: string;
    readonly role: Role;
    readonly state: State;
    readonly writable: boolean;
    readonly epoch: number;
    readonly since: number;
    readonly why: string;
  };
  readonly peer: {
    readonly name: string;
    readonly role: Role;
    /** By its last report. */
    readonly state: State | null;
    /** It answers, and its disk has room. */
    readonly databaseOk: boolean | null;
    readonly diskFull: boolean;
    readonly version: string | null;
    readonly reachable: boolean;
    readonly lastSeen: number | null;
    readonly clockSkewMs: number | null;
    /** Why it says that the two do not belong together. */
    readonly refusal: string | null;
    /** Why the last heartbeat failed. */
    readonly failure: string | null;
  };
  readonly database: { readonly running: boolean; readonly version: string | null; readonly url: string };
  readonly outgoing: {
    readonly currentLsn: Lsn;
    /** How far the peer has applied this node's stream; null before it has told. */
    readonly peerAppliedLsn: Lsn | null;
    /** The oldest WAL that the slot keeps; null if there is no slot. */
    readonly restartLsn: Lsn | null;
    /** Own transactions that the peer has not applied. */
    readonly pendingTransactions: number;
    readonly oldestPendingAt: number | null;
  };
  readonly incoming: {
    readonly appliedLsn: Lsn;
    readonly pendingBytes: number | null;
    /** Since when this node has been behind its peer; null if it is level. */
    readonly behindSince: number | null;
  };
  readonly merge: { readonly active: boolean; readonly mergedTransactions: number; readonly conflicts: number };
  readonly conflicts: { readonly total: number; readonly unreviewed: number; readonly quarantined: number };
  readonly key: {
    readonly path: string;
    readonly ok: boolean;
    readonly sameAsPeer: boolean | null;
    readonly problem: string | null;
  };
  readonly agentVersion: string;
  /** Problems that other parts have found, e.g. a table that differs. */
  readonly problems: readonly {
    readonly name: string;
    readonly severity: Alert["severity"];
    readonly message: string;
  }[];
}

/** `before` are the alerts of the last status: one that lasts keeps its `since`. */
export function buildStatus(input: StatusInput, now: number, before: readonly Alert[] = []): Status {
  const { node, peer, database, outgoing, incoming, merge, conflicts, key } = input;
  const ahead = outgoing.peerAppliedLsn === null ? 0n : outgoing.currentLsn - outgoing.peerAppliedLsn;
  return {
    node: { ...node, since: iso(node.since) },
    peer: {
      name: peer.name,
      role: peer.role,
      state: peer.state,
      reachable: peer.reachable,
      last_seen: peer.lastSeen === null ? null : iso(peer.lastSeen),
      clock_skew_ms: peer.clockSkewMs === null ? null : round(peer.clockSkewMs, 2),
    },
    database: { running: database.running, version: database.version, url: withoutPassword(database.url) },
    outgoing: {
      // WAL grows by itself (vacuum, checkpoints): without a transaction in it nothing is pending.
      pending_bytes: outgoing.pendingTransactions === 0 ? 0 : positive(ahead),
      pending_transactions: outgoing.pendingTransactions,
      oldest_pending_seconds: secondsSince(outgoing.oldestPendingAt, now),
      retained_wal_bytes: outgoing.restartLsn === null ? 0 : positive(outgoing.currentLsn - outgoing.restartLsn),
    },
    incoming: {
      applied_lsn: formatLsn(incoming.appliedLsn),
      lag_seconds: secondsSince(incoming.behindSince, now),
      pending_bytes: incoming.pendingBytes,
    },
    merge: { active: merge.active, merged_transactions: merge.mergedTransactions, conflicts: merge.conflicts },
    conflicts: { total: conflicts.total, unreviewed: conflicts.unreviewed, quarantined: conflicts.quarantined },
    key: { path: key.path, ok: key.ok, same_as_peer: key.sameAsPeer, problem: key.problem },
    alerts: alertsOf(input).map((alert) => ({
      ...alert,
      since: before.find(({ name }) => name === alert.name)?.since ?? iso(now),
    })),
  };
}

/** Beyond this last_update_wins decides by the clocks' error rather than by who was later. */
const maxSkewMs = 500;

function alertsOf(input: StatusInput): Omit<Alert, "since">[] {
  const { node, peer, database, conflicts, key } = input;
  const alerts: Omit<Alert, "since">[] = [];
  const raise = (name: string, severity: Alert["severity"], message: string) =>
    alerts.push({ name, severity, message });

  if (!database.running) raise("database_down", "error", `the database of ${node.name} does not answer`);
  if (peer.refusal !== null) {
    raise("peer_mismatch", "error", peer.refusal);
  } else if (!peer.reachable) {
    const why = peer.failure === null ? "" : `: ${peer.failure}`;
    raise("peer_unreachable", "error", `${peer.name} does not answer${why}`);
  } else {
    if (peer.diskFull) raise("peer_disk_full", "error", `the disk of ${peer.name} is full`);
    else if (peer.databaseOk === false) {
      raise("peer_database_down", "error", `the database of ${peer.name} does not answer`);
    }
    if (node.state === "serving" && peer.state === "serving") {
      raise("split", "warning", "both nodes serve: what they took in apart from each other is being merged");
    }
    if (peer.version !== null && peer.version !== input.agentVersion) {
      raise("versions_differ", "warning", `${peer.name} runs agent ${peer.version}, this node ${input.agentVersion}`);
    }
  }
  if (node.role === "secondary" && node.writable) {
    raise("secondary_serves", "warning", `${node.name} serves in place of its primary: ${node.why}`);
  }
  if (peer.clockSkewMs !== null && Math.abs(peer.clockSkewMs) > maxSkewMs) {
    raise("clock_skew", "warning", `the clocks are ${Math.round(Math.abs(peer.clockSkewMs))} ms apart`);
  }
  if (conflicts.quarantined > 0) {
    const rows = conflicts.quarantined === 1 ? "1 row was" : `${conflicts.quarantined} rows were`;
    const stand = conflicts.quarantined === 1 ? "stands" : "stand";
    raise(
      "quarantine",
      "warning",
      `${rows} overruled or refused in a merge and ${stand} in no table. Try: agent conflicts list --unreviewed`,
    );
  }
  if (!key.ok) raise("key", "error", `${key.problem ?? "the master key cannot be used"}. Try: agent key check`);
  else if (key.sameAsPeer === false) {
    raise("key_differs", "error", `${peer.name} has another master key. Try: agent key check`);
  }
  return [...alerts, ...input.problems];
}

/** A connection URL as it may be shown. */
export function withoutPassword(url: string): string {
  return url
    .replace(/^([a-z]+:\/\/[^:@/?#]*):[^?#]*@/i, "$1@")
    .replace(/([?&])password=[^&#]*(&?)/gi, (_all, before: string, after: string) => after ? before : "");
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

function positive(bytes: bigint): number {
  return bytes > 0n ? Number(bytes) : 0;
}

function secondsSince(at: number | null, now: number): number {
  return at === null ? 0 : round(Math.max(0, now - at) / 1000, 3);
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
