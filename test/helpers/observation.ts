// Observations for tests of the state machine: all is well and level, but for what is named.
import { noOrders } from "../../agent/report.ts";
import type { Observation, PeerView, Record, Settings } from "../../agent/role/states.ts";

export const settings: Settings = { afterMs: 3000, peerWaitMs: 10_000, nearBytes: 1000, steadyMs: 1000 };

export function peerOf(changed: Partial<PeerView> = {}): PeerView {
  return {
    state: "standby",
    epoch: 0,
    databaseOk: true,
    appliedLsn: 5000n,
    fenceLsn: null,
    pendingBytes: 0,
    holdsMerge: false,
    orders: noOrders,
    unwellMs: 0,
    knowsOurState: true,
    ...changed,
  };
}

export function seenOf(changed: Partial<Observation> = {}): Observation {
  return {
    peerExpected: true,
    peer: peerOf(),
    peerSilentMs: 10,
    missedHeartbeats: 0,
    peerRefuses: false,
    peerSteadyMs: 60_000,
    inStateMs: 100,
    enteredHere: true,
    databaseOk: true,
    databaseGoneMs: 0,
    diskFull: false,
    appliedLsn: 5000n,
    currentLsn: 5000n,
    preparedOpen: false,
    fenceLsn: null,
    level: true,
    failoverAsked: false,
    ...changed,
  };
}

export function recordOf(changed: Partial<Record>): Record {
  return {
    role: "primary",
    state: "starting",
    epoch: 1,
    since: 0,
    why: "",
    inSync: true,
    orders: noOrders,
    takeovers: [],
    ...changed,
  };
}
