// The primary's agent dies alone (kill -9), its PostgreSQL goes on. Back within after_ms it goes on as if nothing had been:
// no session is lost and nobody takes over. Away for longer, the secondary serves as well, and what the clients of the old
// primary have written meanwhile is merged.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { Scope } from "../helpers/scope.ts";
import { scopedTest } from "../helpers/scope.ts";
import { checkHistory, makeTpcb, startTpcb, type TpcbLoad } from "../helpers/tpcb.ts";
import { waitFor } from "../helpers/wait.ts";

/** Long enough for an agent to be started again on a busy machine. */
const afterMs = 5000;

async function more(load: TpcbLoad, count: number, what: string): Promise<void> {
  const before = load.acknowledged;
  await waitFor(() => load.acknowledged >= before + count, { what, deadlineMs: 30_000 });
}

async function backInTime(scope: Scope, pair: Pair, load: TpcbLoad): Promise<void> {
  const { primary, secondary } = pair;
  const before = { primary: await primary.status(), secondary: await secondary.status() };
  const session = await primary.app(pair.target).reserve();
  scope.defer("the session", () => session.release());
  await session.unsafe("CREATE TEMP TABLE mine (id int)").simple();
  await session.unsafe(`BEGIN; UPDATE pgbench_tellers SET filler = 'open' WHERE tid = 20`).simple();

  for (const time of ["first", "second"]) {
    primary.killAgent();
    await more(load, 20, "writes while no agent runs");
    primary.start();
    await primary.waitServing();
    await waitSteady(pair);
    const { node } = await primary.status();
    assert.equal(node.epoch, before.primary.node.epoch, `the same epoch after the ${time} kill`);
    const { node: other } = await secondary.status();
    assert.deepEqual([other.state, other.since], ["standby", before.secondary.node.since], "no failover");
  }
  // The transaction that was open all the while, in a session with what is its own.
  await session.unsafe("INSERT INTO mine VALUES (1); COMMIT").simple();
  const [{ rows }] = await session`SELECT count(*)::int AS rows FROM mine`;
  assert.equal(rows, 1);
  const { readOnlyRefusals, reconnections } = await load.stop();
  assert.deepEqual([readOnlyRefusals, reconnections], [0, 0], "no client has noticed");
}

async function away({ primary, secondary }: Pair, follows: TpcbLoad, stays: TpcbLoad): Promise<void> {
  const { epoch } = (await primary.status()).node;
  primary.killAgent();
  const serving = await secondary.waitServing();
  assert.match(serving.node.why, /the primary could not be reached for after_ms/);
  assert.ok(serving.node.epoch > epoch);
  // The old primary's database is open: nobody is there to close it. Its clients go on, and lose nothing.
  await more(stays, 50, "writes on the old primary");
  await more(follows, 50, "writes on the secondary");
  primary.start();
  await waitSteady({ primary, secondary } as Pair);
  assert.ok((await primary.status()).node.epoch > serving.node.epoch);
}

scopedTest("an agent that is killed alone, and is back in time or not", async (scope) => {
  const pair = await makePair(scope, {
    load: (sql) => makeTpcb(sql, { branches: 2 }),
    failover: { after_ms: afterMs },
  });
  const { primary, secondary } = pair;
  const start = (name: string, index: number, hosts = pair.target.hosts) => {
    const load = startTpcb({ ...pair.target, hosts }, { name, branches: 2, share: { index, of: 2 }, thinkMs: 5 });
    scope.defer(`load ${name}`, async () => void await load.stop());
    return load;
  };
  const first = start("a", 0);
  await more(first, 50, "50 transactions");
  await backInTime(scope, pair, first);

  const [onPrimary, onSecondary] = pair.target.hosts;
  const stays = start("s", 0, [onPrimary]);
  const follows = start("f", 1, [onSecondary]);
  await more(stays, 50, "50 transactions");
  await away(pair, follows, stays);
  await more(stays, 50, "writes on the primary after the handback");

  const reports = [await first.stop(), await stays.stop(), await follows.stop()];
  console.log(
    reports.map(({ acknowledged, reconnections }) => `${acknowledged.length}, ${reconnections} lost`).join("; "),
  );
  assert.deepEqual(reports.flatMap(({ errors }) => errors), []);
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await checkHistory(primary.superuser, reports), { missing: [], doubled: [], invented: [] });
  const [{ filler }] = await secondary.superuser`SELECT filler FROM pgbench_tellers WHERE tid = 20`;
  assert.equal(filler.trim(), "open");
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
