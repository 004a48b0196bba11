// A primary that is there but of no use: its PostgreSQL hangs, or its disk is full. Either counts as unavailable: the
// secondary serves. What a client that knows only the old primary writes to it all the while is lost in neither case.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { checkHealth } from "../helpers/health.ts";
import type { Address } from "../helpers/link.ts";
import { assertNoLeaks, failover, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { freePort } from "../helpers/servers.ts";
import { openSmallDisk, type SmallDisk } from "../helpers/small_disk.ts";
import { checkHistory, makeTpcb, startTpcb, type TpcbLoad } from "../helpers/tpcb.ts";
import { waitFor } from "../helpers/wait.ts";
import { noteTable } from "../helpers/writer.ts";

/** A client has to notice that its server hangs, and look for another. */
const noticeMs = 10_000;

async function more(load: TpcbLoad, count: number, what: string, deadlineMs = 30_000): Promise<void> {
  const before = load.acknowledged;
  await waitFor(() => load.acknowledged >= before + count, { what, deadlineMs });
}

async function hang(scope: Scope, pair: Pair, health: Address, load: TpcbLoad, stays: TpcbLoad): Promise<void> {
  const { primary, secondary, target } = pair;
  const { epoch } = (await secondary.status()).node;
  const session = await primary.app(target).reserve();
  scope.defer("the session", () => session.release());
  await session`SELECT 1`;
  primary.freezePostgres();
  const serving = await secondary.waitServing();
  const frozen = stays.acknowledged;
  assert.match(serving.node.why, /the primary's database did not answer, or had no room, for after_ms/);
  assert.ok(serving.node.epoch > epoch, "another serves, so the epoch is higher");
  assert.ok(serving.peer.reachable, "the primary's agent answers all the while");
  assert.ok(serving.alerts.some(({ name }) => name === "peer_database_down"));
  const hanging = await primary.waitState("starting");
  assert.deepEqual([hanging.node.writable, hanging.database.running], [false, false]);
  await checkHealth(health, "databaseGone");
  await more(load, 20, "writes on the secondary", noticeMs + 20_000);
  assert.equal(stays.acknowledged, frozen, "a server that hangs acknowledges nothing");

  // Sent to a server that hangs, done when it wakes: before its agent can close it, and after the other began to serve.
  const late = session.unsafe("INSERT INTO note (tag) VALUES ('late')").simple().then(() => 1, () => 0);
  primary.thawPostgres();
  const acknowledged = await late;
  // It looks first who serves; the handback may be over before anybody has seen it catch up.
  await primary.waitStatus("awake", ({ node }) => node.state !== "starting");
  await waitSteady(pair);
  const [{ found }] = await secondary.superuser`SELECT count(*)::int AS found FROM note`;
  console.log(`the late write was ${acknowledged ? "acknowledged" : "refused"}, ${found} of it is on the secondary`);
  assert.ok(found >= acknowledged);
}

async function fill({ primary, secondary }: Pair, load: TpcbLoad, disk: SmallDisk): Promise<void> {
  const { epoch } = (await secondary.status()).node;
  disk.fill();
  const serving = await secondary.waitServing();
  assert.match(serving.node.why, /the primary's database did not answer, or had no room, for after_ms/);
  assert.ok(serving.node.epoch > epoch);
  assert.ok(serving.alerts.some(({ name }) => name === "peer_disk_full"));
  const full = await primary.waitStatus(
    "following, with an alarm that says what to do",
    ({ node, alerts }) =>
      node.state === "catching_up" && !node.writable && alerts.some(({ name }) => name === "disk_full"),
  );
  assert.match(full.node.why, /the disk of this node is full and the secondary serves/);
  assert.match(full.alerts.find(({ name }) => name === "disk_full")!.message, /less than 64 MB.*Try: make room/);
  // Nothing is handed back to a full disk, though the primary is in sight and has everything.
  await more(load, 20, "writes on the secondary");
  await primary.waitStatus("level with the secondary", ({ incoming }) => incoming.pending_bytes === 0);
  assert.equal((await secondary.status()).node.since, serving.node.since);

  disk.clear();
  await waitSteady({ primary, secondary } as Pair);
  assert.ok(!(await primary.status()).alerts.some(({ name }) => name === "disk_full"));
}

scopedTest("a database that hangs and a full disk count as unavailable", async (scope) => {
  const health = { host: "127.0.0.1", port: await freePort() };
  const pair = await makePair(scope, {
    load: async (sql) => {
      await makeTpcb(sql, { branches: 2 });
      await sql.unsafe(noteTable);
    },
    configure: ({ host }) => ({ health: { listen: `${host}:${health.port}` } }),
  });
  const { primary, secondary } = pair;
  const disk = await openSmallDisk(scope, primary);
  const load = startTpcb(pair.target, { branches: 2, share: { index: 0, of: 2 }, thinkMs: 5 });
  scope.defer("load", async () => void await load.stop());
  const onlyPrimary = { ...pair.target, hosts: pair.target.hosts.slice(0, 1) };
  const stays = startTpcb(onlyPrimary, { name: "s", branches: 2, share: { index: 1, of: 2 }, thinkMs: 20 });
  scope.defer("load on the primary", async () => void await stays.stop());
  await more(load, 100, "100 transactions");

  await hang(scope, pair, health, load, stays);
  await more(load, 50, "writes after the handback");
  await more(stays, 50, "writes on the primary after the handback");
  await fill(pair, load, disk);
  await more(load, 50, "writes after there was room again");
  await more(stays, 50, "writes on the primary after there was room again");

  const reports = [await load.stop(), await stays.stop()];
  for (const { acknowledged, unknown, reconnections, readOnlyRefusals, longestGapMs } of reports) {
    console.log(
      `${acknowledged.length} acknowledged, ${unknown.length} unknown, ${reconnections} reconnections, ` +
        `${readOnlyRefusals} refusals, longest gap ${longestGapMs.toFixed(0)} ms (after_ms ${failover.after_ms})`,
    );
  }
  assert.deepEqual(reports.flatMap(({ errors }) => errors), []);
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await checkHistory(primary.superuser, reports), { missing: [], doubled: [], invented: [] });
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
