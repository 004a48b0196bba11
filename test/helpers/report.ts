// A node report for tests: a healthy secondary in standby, but for what is named.
import { type NodeReport, noOrders } from "../../agent/report.ts";

export function reportOf(changed: Partial<NodeReport> = {}): NodeReport {
  return {
    name: "b.example",
    role: "secondary",
    state: "standby",
    epoch: 1,
    pair_id: "pair",
    generation: "g1",
    protocol: 1,
    agent_version: "0.1.0",
    pg_version: "18.4",
    writable: false,
    database_ok: true,
    database_gone_ms: 0,
    disk_full: false,
    applied_lsn: "0/1000",
    capturing: false,
    fence_lsn: null,
    incoming_pending_bytes: 0,
    merge_held: false,
    orders: noOrders,
    current_lsn: "0/2000",
    clock_ms: 1000,
    config_hash: "c",
    ...changed,
  };
}
