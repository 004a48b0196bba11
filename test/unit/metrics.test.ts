// The figures for Prometheus: each of the status, under a name that stays, and in a text that Prometheus reads.
import assert from "node:assert/strict";
import { test } from "node:test";
import { figuresOf, metricsText } from "../../agent/monitor/metrics.ts";
import { buildStatus, type StatusInput } from "../../agent/monitor/status.ts";
import { now, well } from "../helpers/status_input.ts";

/** `name{label="value"}` to value, as read from the text. */
async function scrape(changed: Partial<StatusInput> = {}): Promise<Map<string, number>> {
  const { text } = await metricsText(buildStatus({ ...well, ...changed }, now));
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

test("a pair that is well: every figure of the status", async () => {
  const found = await scrape();
  const ones = ['hapair_node_info{node="a",role="primary",peer="b",postgresql="18.4"}', 'hapair_role{role="primary"}'];
  for (const name of [...ones, 'hapair_state{state="serving"}', 'hapair_peer_state{peer_state="standby"}']) {
    assert.equal(found.get(name), 1, name);
  }
  for (const name of ['hapair_role{role="secondary"}', 'hapair_state{state="standby"}']) {
    assert.equal(found.get(name), 0);
  }
  const expected = {
    state_since_seconds: now / 1000 - 60,
    writable: 1,
    epoch: 3,
    peer_reachable: 1,
    peer_last_seen_seconds: now / 1000 - 0.1,
    clock_skew_seconds: 0.00041,
    database_up: 1,
    outgoing_pending_bytes: 0,
    outgoing_pending_transactions: 0,
    outgoing_oldest_pending_seconds: 0,
    retained_wal_bytes: 0x2000,
    incoming_applied_lsn_bytes: 0x1_0000_0001,
    incoming_lag_seconds: 0,
    incoming_pending_bytes: 0,
    merge_active: 0,
    merged_transactions: 0,
    conflicts: 0,
    conflicts_unreviewed: 0,
    conflicts_quarantined: 0,
    key_ok: 1,
    'alerts{severity="error"}': 0,
    'alerts{severity="warning"}': 0,
  };
  const plain = [...found].filter(([name]) => !/^hapair_(node_info|role|state|peer_state)\{/.test(name));
  assert.deepEqual(Object.fromEntries(plain.map(([name, value]) => [name.slice("hapair_".length), value])), expected);
});

test("trouble shows: alerts by name, what is pending, and what nobody knows is left out", async () => {
  const found = await scrape({
    peer: { ...well.peer, state: null, reachable: false, lastSeen: null, clockSkewMs: null, failure: 'it said "no"\n' },
    database: { ...well.database, running: false, version: null },
    outgoing: { ...well.outgoing, pendingTransactions: 2, oldestPendingAt: now - 1500 },
    incoming: { ...well.incoming, pendingBytes: null, behindSince: now - 250 },
    conflicts: { total: 7, unreviewed: 3, quarantined: 1 },
    merge: { active: true, mergedTransactions: 12, conflicts: 7 },
  });
  const figures = {
    "peer_reachable": 0,
    "database_up": 0,
    "outgoing_pending_bytes": 0x1000,
    "outgoing_pending_transactions": 2,
    "outgoing_oldest_pending_seconds": 1.5,
    "incoming_lag_seconds": 0.25,
    "merge_active": 1,
    "merged_transactions": 12,
    "conflicts": 7,
    "conflicts_unreviewed": 3,
    "conflicts_quarantined": 1,
    'alerts{severity="error"}': 2,
    'alerts{severity="warning"}': 1,
    'alert{name="database_down",severity="error"}': 1,
    'alert{name="peer_unreachable",severity="error"}': 1,
    'alert{name="quarantine",severity="warning"}': 1,
    'peer_state{peer_state="standby"}': 0,
  };
  for (const [name, value] of Object.entries(figures)) assert.equal(found.get(`hapair_${name}`), value, name);
  for (const name of ["clock_skew_seconds", "peer_last_seen_seconds", "incoming_pending_bytes"]) {
    assert.equal(found.has(`hapair_${name}`), false, name);
  }
});

test("an alert that is over is gone at the next answer", async () => {
  const trouble = { peer: { ...well.peer, reachable: false } };
  assert.ok((await scrape(trouble)).has('hapair_alert{name="peer_unreachable",severity="error"}'));
  assert.ok(![...(await scrape()).keys()].some((name) => name.startsWith("hapair_alert{")));
});

test("names and helps are such as Prometheus wants, each once; labels are escaped; no password is in it", async () => {
  const figures = figuresOf(buildStatus(well, now));
  assert.equal(new Set(figures.map(({ name }) => name)).size, figures.length);
  for (const { name, help } of figures) {
    assert.match(name, /^[a-z_]+$/);
    assert.match(help, /^[A-Z][^\n\\]+[^.]$/);
  }
  const named = { ...well, node: { ...well.node, name: 'a "b"\\\nc' } };
  const { text, contentType } = await metricsText(buildStatus(named, now));
  assert.match(contentType, /^text\/plain; version=0\.0\.4/);
  assert.ok(text.includes(String.raw`node="a \"b\"\\\nc"`), text.slice(0, 300));
  assert.ok(!text.includes("geheim"));
  assert.ok(text.endsWith("\n"));
});
