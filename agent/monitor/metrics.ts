// The figures of `agent status --json` for Prometheus: a pure list from a status, and its text by prom-client.
// Knows nothing that status does not know; what is not known now is left out, not shown as 0.
import { Gauge, Registry } from "prom-client";
import { parseLsn } from "../change/lsn.ts";
import { roles, states } from "../report.ts";
import type { Status } from "./status.ts";

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Figure {
  /** Without the prefix `hapair_`. */
  readonly name: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** Every figure, in the order of the status. */
export function figuresOf(status: Status): Figure[] {
  const { node, peer, database, outgoing, incoming, merge, conflicts, key, alerts } = status;
  return [
    labelled("node_info", "Who this node is; always 1", [{
      labels: { node: node.name, role: node.role, peer: peer.name, postgresql: database.version ?? "" },
      value: 1,
    }]),
    oneOf("role", "The role that this node was set up for", roles, node.role),
    oneOf("state", "What this node does now", states, node.state),
    plain("state_since_seconds", "When the state was entered, in seconds since 1970", seconds(node.since)),
    plain("writable", "Whether this node takes writes", flag(node.writable)),
    plain("epoch", "Raised at each change of who serves", node.epoch),
    plain("peer_reachable", "Whether the peer answers", flag(peer.reachable)),
    oneOf("peer_state", "What the peer does by its last word; all 0 before the first", states, peer.state),
    plain(
      "peer_last_seen_seconds",
      "When the peer was heard of last, in seconds since 1970",
      peer.last_seen === null ? null : seconds(peer.last_seen),
    ),
    plain(
      "clock_skew_seconds",
      "The peer's clock minus this node's",
      // Not by division: it would show digits that nobody has measured.
      peer.clock_skew_ms === null ? null : Number(`${peer.clock_skew_ms}e-3`),
    ),
    plain("database_up", "Whether this node's PostgreSQL answers", flag(database.running)),
    plain("outgoing_pending_bytes", "WAL that the peer has still to apply", outgoing.pending_bytes),
    plain(
      "outgoing_pending_transactions",
      "Own transactions that the peer has not applied",
      outgoing.pending_transactions,
    ),
    plain("outgoing_oldest_pending_seconds", "Age of the oldest of them", outgoing.oldest_pending_seconds),
    plain("retained_wal_bytes", "WAL that is kept for the peer", outgoing.retained_wal_bytes),
    plain(
      "incoming_applied_lsn_bytes",
      "How far the peer's changes are applied here, as a position in its WAL",
      Number(parseLsn(incoming.applied_lsn)),
    ),
    plain("incoming_lag_seconds", "For how long this node has been behind its peer", incoming.lag_seconds),
    plain("incoming_pending_bytes", "WAL of the peer that has still to be applied here", incoming.pending_bytes),
    plain("merge_active", "Whether changes of both nodes are being merged", flag(merge.active)),
    plain(
      "merged_transactions",
      "Transactions of the peer that were applied since the agent started",
      merge.merged_transactions,
    ),
    plain("conflicts", "Conflicts on record", conflicts.total),
    plain("conflicts_unreviewed", "Conflicts that nobody has looked at", conflicts.unreviewed),
    plain("conflicts_quarantined", "Those of them whose losing row stands in no table", conflicts.quarantined),
    plain("key_ok", "Whether the master key can be read", flag(key.ok)),
    labelled(
      "alerts",
      "Alerts that are raised now, by severity",
      (["error", "warning"] as const).map((severity) => ({
        labels: { severity },
        value: alerts.filter((alert) => alert.severity === severity).length,
      })),
    ),
    labelled(
      "alert",
      "Each alert that is raised now; always 1",
      alerts.map(({ name, severity }) => ({ labels: { name, severity }, value: 1 })),
    ),
  ];
}

/** In Prometheus' text format. */
export async function metricsText(status: Status): Promise<{ text: string; contentType: string }> {
  // A registry for each answer: an alert that is over must not stay.
  const registry = new Registry();
  for (const { name, help, samples } of figuresOf(status)) {
    // A gauge that is given nothing would say 0.
    if (samples.length === 0) continue;
    const labelNames = [...new Set(samples.flatMap(({ labels }) => Object.keys(labels)))];
    const gauge = new Gauge({ name: `hapair_${name}`, help, labelNames, registers: [registry] });
    for (const { labels, value } of samples) gauge.set(labels, value);
  }
  return { text: await registry.metrics(), contentType: registry.contentType };
}

function labelled(name: string, help: string, samples: readonly Sample[]): Figure {
  return { name, help, samples };
}

/** null: nobody knows. */
function plain(name: string, help: string, value: number | null): Figure {
  return { name, help, samples: value === null ? [] : [{ labels: {}, value }] };
}

/** One sample for each value it may have; 1 is the one that it has. */
function oneOf(name: string, help: string, values: readonly string[], is: string | null): Figure {
  return { name, help, samples: values.map((value) => ({ labels: { [name]: value }, value: flag(value === is) })) };
}

function flag(is: boolean): number {
  return is ? 1 : 0;
}

function seconds(iso: string): number {
  return Date.parse(iso) / 1000;
}
