// Status, its text, the events between two of them and the log's two forms, all from plain values.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { eventsBetween, logEvent } from "../../agent/monitor/events.ts";
import { startLog, stopLog } from "../../agent/monitor/log.ts";
import { buildStatus, type StatusInput, withoutPassword } from "../../agent/monitor/status.ts";
import { renderStatus } from "../../cli/status.ts";
import { now, well } from "../helpers/status_input.ts";

test("a pair that is well: true figures, no alerts, no password", () => {
  const status = buildStatus(well, now);
  assert.deepEqual(status.node.since, "2029-12-31T23:59:00.000Z");
  assert.deepEqual(status.peer.clock_skew_ms, 0.41);
  assert.deepEqual(status.outgoing, {
    pending_bytes: 0,
    pending_transactions: 0,
    oldest_pending_seconds: 0,
    retained_wal_bytes: 0x2000,
  });
  assert.deepEqual(status.incoming, { applied_lsn: "1/1", lag_seconds: 0, pending_bytes: 0 });
  assert.deepEqual(status.alerts, []);
  assert.ok(!JSON.stringify(status).includes("geheim"));
});

test("what is pending is told with its age", () => {
  const { outgoing, incoming } = buildStatus({
    ...well,
    outgoing: { ...well.outgoing, pendingTransactions: 2, oldestPendingAt: now - 1500 },
    incoming: { appliedLsn: 1n, pendingBytes: null, behindSince: now - 250 },
  }, now);
  assert.deepEqual([outgoing.pending_bytes, outgoing.oldest_pending_seconds], [0x1000, 1.5]);
  assert.deepEqual([incoming.pending_bytes, incoming.lag_seconds], [null, 0.25]);
});

for (
  const [name, input] of [
    ["database_down", { database: { ...well.database, running: false } }],
    ["peer_unreachable", { peer: { ...well.peer, reachable: false, failure: "no answer within 900 ms" } }],
    ["peer_mismatch", { peer: { ...well.peer, reachable: false, refusal: "b belongs to another pair than a" } }],
    ["peer_database_down", { peer: { ...well.peer, databaseOk: false } }],
    ["split", { peer: { ...well.peer, state: "serving" } }],
    ["versions_differ", { peer: { ...well.peer, version: "0.2.0" } }],
    ["secondary_serves", { node: { ...well.node, role: "secondary" } }],
    ["clock_skew", { peer: { ...well.peer, clockSkewMs: -501 } }],
    ["quarantine", { conflicts: { total: 5, unreviewed: 3, quarantined: 1 } }],
    ["key", { key: { ...well.key, ok: false, problem: "mode 0644" } }],
    ["key_differs", { key: { ...well.key, sameAsPeer: false } }],
    ["table_differs", { problems: [{ name: "table_differs", severity: "error", message: "x" }] }],
  ] as [string, Partial<StatusInput>][]
) {
  test(`alert ${name} is raised alone, and keeps its since`, () => {
    const first = buildStatus({ ...well, ...input }, now);
    assert.deepEqual(first.alerts.map((alert) => alert.name), [name]);
    const second = buildStatus({ ...well, ...input }, now + 5000, first.alerts);
    assert.equal(second.alerts[0].since, new Date(now).toISOString());
  });
}

test("passwords are taken out of any URL", () => {
  assert.equal(withoutPassword("postgres://u:p%40:x@h:1/d?sslmode=x"), "postgres://u@h:1/d?sslmode=x");
  assert.equal(withoutPassword("postgres://h/d?password=x&user=u"), "postgres://h/d?user=u");
  assert.equal(withoutPassword("postgres://h/d?user=u&password=x"), "postgres://h/d?user=u");
  assert.equal(withoutPassword("postgres://u:a@b/c@h:1/d"), "postgres://u@h:1/d");
  for (const url of ["postgres://u@h:1/d", "postgres://h:1/d?user=u"]) assert.equal(withoutPassword(url), url);
});

test("the text is aligned and the same with colours", () => {
  const status = buildStatus({ ...well, peer: { ...well.peer, reachable: false, failure: "away" } }, now);
  const text = renderStatus(status, false);
  const lines = text.split("\n");
  assert.equal(lines[0], "node       a  primary serving, takes writes, epoch 3");
  assert.equal(lines[2], "peer       b  secondary unreachable, was standby, last seen 2029-12-31T23:59:59.900Z");
  assert.equal(lines[9], "error      b does not answer: away since 2030-01-01T00:00:00.000Z");
  assert.equal(stripVTControlCharacters(renderStatus(status, true)), text);
  assert.notEqual(renderStatus(status, true), text);
});

test("what happened between two statuses", () => {
  const up = buildStatus(well, now);
  const away = buildStatus({ ...well, peer: { ...well.peer, reachable: false } }, now);
  const moved = buildStatus({ ...well, peer: { ...well.peer, state: "seeding" } }, now);
  assert.deepEqual(eventsBetween(up, up), []);
  assert.deepEqual(eventsBetween(up, away).map(({ kind }) => kind), ["alert_raised"]);
  assert.deepEqual(eventsBetween(away, up).map(({ kind }) => kind), ["peer_back", "alert_cleared"]);
  assert.deepEqual(eventsBetween(up, moved), [{ kind: "peer_state", peer: "b", state: "seeding" }]);
});

const change = {
  kind: "role_change",
  node: "b",
  role: "secondary",
  from: "standby",
  to: "serving",
  epoch: 2,
  why: "the primary could not be reached for after_ms: this node serves",
} as const;

after(stopLog);

test("a change of role is one line of text", async () => {
  const lines: string[] = [];
  await startLog({ format: "text", write: (line) => lines.push(line) });
  logEvent(change);
  assert.equal(lines.length, 1);
  assert.match(
    lines[0],
    /^\d{4}-\d\d-\d\dT\S+Z WARNING event: b \(secondary\) standby > serving, epoch 2: the primary could not .*\n$/,
  );
});

test("a change of role is one line of JSON with its values", async () => {
  const lines: string[] = [];
  await startLog({ format: "json", write: (line) => lines.push(line) });
  logEvent(change);
  const line = JSON.parse(lines[0]);
  assert.deepEqual([line.logger, line.level, line.to, line.epoch], ["hapair.event", "WARN", "serving", 2]);
});
