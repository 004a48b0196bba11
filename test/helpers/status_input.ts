// What a status is made of, for tests: a primary that serves beside a secondary in standby, both well.
import type { StatusInput } from "../../agent/monitor/status.ts";

/** When it is, milliseconds since 1970. */
export const now = Date.UTC(2030, 0, 1);
export const well: StatusInput = {
  node: {
    name: "a",
    role: "primary",
    state: "serving",
    writable: true,
    epoch: 3,
    since: now - 60_000,
    why: "the secondary stands by: this node serves",
  },
  peer: {
    name: "b",
    role: "secondary",
    state: "standby",
    databaseOk: true,
    diskFull: false,
    version: "0.1.0",
    reachable: true,
    lastSeen: now - 100,
    clockSkewMs: 0.4123,
    refusal: null,
    failure: null,
  },
  database: { running: true, version: "18.4", url: "postgres://app:geheim@a:3456/app" },
  outgoing: {
    currentLsn: 0x3000n,
    peerAppliedLsn: 0x2000n,
    restartLsn: 0x1000n,
    pendingTransactions: 0,
    oldestPendingAt: null,
  },
  incoming: { appliedLsn: 0x1_0000_0001n, pendingBytes: 0, behindSince: null },
  merge: { active: false, mergedTransactions: 0, conflicts: 0 },
  conflicts: { total: 0, unreviewed: 0, quarantined: 0 },
  key: { path: "/k", ok: true, sameAsPeer: true, problem: null },
  agentVersion: "0.1.0",
  problems: [],
};
