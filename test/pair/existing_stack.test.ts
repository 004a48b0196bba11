// What an application's stack uses already, through failover, handback and switchover, with nothing but reconnections: several
// hosts with target_session_attrs, JDBC's targetServerType, HAProxy with checks of the health API, a pool that keeps its
// connections. No row that was acknowledged to any of them is missing.
import assert from "node:assert/strict";
import postgres from "postgres";
import type { Sql } from "../../agent/postgres/connect.ts";
import { openBalancer } from "../helpers/balancer.ts";
import { waitEqual } from "../helpers/equality.ts";
import { Follower, openClient, targetServerTypes } from "../helpers/follower.ts";
import { checkHealth, scrape } from "../helpers/health.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { freePort } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";
import { missingNotes, noteTable, Writer } from "../helpers/writer.ts";

const insert = (sql: Sql, tag: string) => sql`INSERT INTO note (tag) VALUES (${tag})`.then(() => {});

/** The library's own: each connection goes to the first host that takes writes. */
function libpq(scope: Scope, { target }: Pair): Writer {
  const hosts = target.hosts.map(({ host, port }) => `${host}:${port}`).join(",");
  const who = `${target.user}:${encodeURIComponent(target.password!)}`;
  const sql = postgres(`postgres://${who}@${hosts}/${target.database}?target_session_attrs=read-write`, {
    max: 2,
    connect_timeout: 2,
    backoff: () => 0.1,
  });
  scope.defer("libpq's pool", () => sql.end({ timeout: 1 }));
  return new Writer(scope, "libpq", (tag) => insert(sql, tag));
}

function jdbc(scope: Scope, { target }: Pair): Writer {
  const follower = new Follower(target, "jdbc", targetServerTypes.primary);
  scope.defer("jdbc's connection", () => follower.close());
  return new Writer(scope, "jdbc", (tag) => follower.run((sql) => insert(sql, tag)));
}

/** Knows the balancer only, and does not look where it has landed. */
function behind(scope: Scope, name: string, { target }: Pair, front: { host: string; port: number }): Writer {
  const sql = openClient(target, { name, host: front });
  scope.defer(name, () => sql.end({ timeout: 1 }));
  return new Writer(scope, name, (tag) => insert(sql, tag));
}

/** A pooler's idle connections to a node; resolves when the server has ended them all. */
async function idlePool(scope: Scope, node: PairNode, { target }: Pair): Promise<() => Promise<void>> {
  const sql = openClient(target, { name: "pooler", max: 3, host: { host: node.host, port: node.pgPort } });
  scope.defer("the pooler", () => sql.end({ timeout: 1 }));
  const pids = await Promise.all([1, 2, 3].map(async () => {
    const one = await sql.reserve();
    return (await one`SELECT pg_backend_pid() AS pid`)[0].pid as number;
  }));
  return async () => {
    await waitFor(
      async () => (await node.superuser`SELECT FROM pg_stat_activity WHERE pid = ANY (${pids})`).length === 0,
      { what: `the end of the pooler's sessions at the ${node.role}`, deadlineMs: 10_000 },
    );
  };
}

/** The figures are those of the status. Asked again where something has changed between the two answers. */
async function checkMetrics(node: PairNode, health: { host: string; port: number }): Promise<void> {
  await waitFor(async () => {
    const found = await scrape(health);
    const status = await node.status();
    assert.equal(found.get(`state{state="${status.node.state}"}`), 1);
    assert.equal(found.get(`peer_state{peer_state="${status.peer.state}"}`), 1);
    assert.equal(found.get("writable"), Number(status.node.writable));
    assert.equal(found.get("epoch"), status.node.epoch);
    assert.equal(found.get("peer_reachable"), Number(status.peer.reachable));
    assert.equal(found.get("conflicts"), status.conflicts.total);
    const alerts = [...found.keys()].filter((name) => name.startsWith("alert{"));
    const expected = status.alerts.map(({ name, severity }) => `alert{name="${name}",severity="${severity}"}`);
    assert.deepEqual(alerts.sort(), expected.sort());
    return true;
  }, { what: `the figures of the ${node.role}`, deadlineMs: 10_000 });
}

scopedTest("an application's stack goes through failover, handback and switchover", async (scope) => {
  const port = await freePort();
  const pair = await makePair(scope, {
    load: (sql) => sql.unsafe(noteTable).then(() => {}),
    configure: ({ host }) => ({ health: { listen: `${host}:${port}` } }),
  });
  const { primary, secondary } = pair;
  const healthOf = (node: PairNode) => ({ host: node.host, port });
  const servers = [primary, secondary].map((node) => ({
    name: node.role,
    database: { host: node.host, port: node.pgPort },
    health: healthOf(node),
  }));
  const { fronts: [byOptions, byGet, forReads], kind } = await openBalancer(scope, servers, [
    { method: "OPTIONS", path: "/primary" },
    { method: "GET", path: "/read-write" },
    { method: "HEAD", path: "/replica" },
  ]);
  const reader = new Follower(pair.target, "jdbc reader", targetServerTypes.secondary);
  scope.defer("jdbc's reader", () => reader.close());
  const portOf = async (sql: Sql) => (await sql`SELECT inet_server_port() AS port`)[0].port;
  assert.equal(await portOf(await reader.connection()), secondary.pgPort, "JDBC reads at the secondary");
  const reads = openClient(pair.target, { name: "reads", host: forReads });
  scope.defer("reads", () => reads.end({ timeout: 1 }));
  await waitFor(async () => await portOf(reads) === secondary.pgPort, {
    what: "the balancer to send reads to the secondary",
    deadlineMs: 10_000,
  });

  const writers = [
    libpq(scope, pair),
    jdbc(scope, pair),
    behind(scope, "behind /primary", pair, byOptions),
    behind(scope, "behind /read-write", pair, byGet),
  ];
  const more = (what: string) => Promise.all(writers.map((writer) => writer.more(30, what)));
  await more("on the primary");
  await checkHealth(healthOf(primary), "takesWrites");
  await checkHealth(healthOf(secondary), "standsBy");
  for (const node of [primary, secondary]) await checkMetrics(node, healthOf(node));

  const endedAtFailover = await idlePool(scope, secondary, pair);
  primary.kill();
  await secondary.waitServing();
  await endedAtFailover();
  await checkHealth(healthOf(secondary), "takesWrites");
  await checkMetrics(secondary, healthOf(secondary));
  await more("on the secondary");

  const endedAtHandback = await idlePool(scope, secondary, pair);
  primary.start();
  await waitSteady(pair);
  await endedAtHandback();
  await more("on the primary after the handback");
  await checkHealth(healthOf(primary), "takesWrites");
  await checkHealth(healthOf(secondary), "standsBy");

  const endedAtSwitchover = await Promise.all([primary, secondary].map((node) => idlePool(scope, node, pair)));
  await primary.agent(["switchover"]);
  for (const ended of endedAtSwitchover) await ended();
  await more("on the secondary after a switchover");
  await checkHealth(healthOf(primary), "catchesUp");
  await primary.agent(["switchover", "--to", "primary"]);
  await waitSteady(pair);
  await more("on the primary in the end");

  for (const writer of writers) await writer.stop();
  console.log([`HAProxy: ${kind}`, ...writers].join("\n"));
  assert.deepEqual(writers.flatMap(({ errors }) => errors), []);
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await missingNotes(secondary.superuser, writers), []);
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
