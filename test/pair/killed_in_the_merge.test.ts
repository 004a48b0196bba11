// Agents and servers of both sides are killed again and again while a split is being merged. Whenever it comes to rest,
// both sides are equal, and every version that was written stands or is in the log. KILL_SEED and KILL_SECONDS repeat a run.
import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import fc from "fast-check";
import { sumTable, waitEqual } from "../helpers/equality.ts";
import { Ledger } from "../helpers/ledger.ts";
import { mergePolicies, mergeTables, prepareRound, writeRound } from "../helpers/merge_load.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { PairNode, Role } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

const seed = Number(process.env.KILL_SEED ?? Math.floor(Math.random() * 2 ** 31));
const seconds = Number(process.env.KILL_SECONDS ?? 60);

const blows: Record<string, (pair: Pair) => void> = {
  "secondary's agent": ({ secondary }) => secondary.killAgent(),
  "secondary's PostgreSQL": ({ secondary }) => secondary.killPostgres(),
  "secondary's server": ({ secondary }) => secondary.kill(),
  "primary's agent": ({ primary }) => primary.killAgent(),
  "primary's PostgreSQL": ({ primary }) => primary.killPostgres(),
  "primary's server": ({ primary }) => primary.kill(),
  "both agents": ({ primary, secondary }) => (primary.killAgent(), secondary.killAgent()),
  "both servers": ({ primary, secondary }) => (primary.kill(), secondary.kill()),
};

/** What is struck in one merge, and when: some time after something is being applied somewhere, or just so. */
const merges = fc.array(
  fc.record({
    target: fc.constantFrom(...Object.keys(blows)),
    applying: fc.constantFrom<Role | null>("primary", "primary", "secondary", null),
    afterMs: fc.oneof({ weight: 3, arbitrary: fc.nat(500) }, { weight: 1, arbitrary: fc.nat(3000) }),
  }),
  { minLength: 2, maxLength: 6 },
);

/** Returns when the node's applier is in a transaction; after a while also if it never is: there may be nothing left. */
async function untilApplying({ superuser }: PairNode): Promise<string> {
  try {
    await waitFor(
      async () =>
        (await superuser`SELECT FROM pg_stat_activity
          WHERE application_name = 'hapair apply' AND state <> 'idle' AND backend_xid IS NOT NULL`).length > 0,
      { what: "something to be applied", deadlineMs: 4000, everyMs: 5 },
    );
    return "in the middle of a batch";
  } catch (_error) {
    return "at rest";
  }
}

scopedTest("killed at any point of a merge, any number of times: the same end", async (scope) => {
  console.log(`KILL_SEED=${seed}`);
  const pair = await makePair(scope, {
    link: true,
    load: async (sql, { primary }) => {
      await sql.unsafe(mergeTables).simple();
      appendFileSync(join(primary.home, "conf", "agent.toml"), mergePolicies);
    },
  });
  const { primary, secondary, link } = pair;
  const apps = { primary: primary.app(pair.target), secondary: secondary.app(pair.target) };
  const ledger = new Ledger();
  const started = performance.now();
  for (const [index, strikes] of fc.sample(merges, { seed, numRuns: 1000 }).entries()) {
    await prepareRound(apps.primary, index + 1);
    await waitEqual(primary.superuser, secondary.superuser);
    link.cut();
    await secondary.waitServing();
    await writeRound(apps, ledger, index + 1);
    link.heal();
    for (const { target, applying, afterMs } of strikes) {
      const moment = applying && await untilApplying(pair[applying]);
      await pause(afterMs); // any moment will do
      blows[target](pair);
      console.log(`  ${target} ${afterMs} ms after the ${applying ? `${applying} was ${moment}` : "one before"}`);
      for (const node of [secondary, primary]) if (!node.isRunning) node.start();
    }
    await waitSteady(pair, 120_000);
    await waitEqual(primary.superuser, secondary.superuser, 60_000);
    assert.deepEqual(
      await ledger.lost(primary.superuser),
      [],
      "every version that was written stands, or is in the log",
    );
    const conflicts = await waitFor(async () => {
      const [here, there] = await Promise.all(
        [primary, secondary].map(({ superuser }) => sumTable(superuser, "ha.conflict")),
      );
      assert.deepEqual(there, here);
      return here.rows;
    }, { what: "the log to be the same on both sides", deadlineMs: 20_000 });
    console.log(`merge ${index + 1}: ${ledger.size} versions, ${conflicts} conflicts so far`);
    ledger.clear();
    if (performance.now() - started > seconds * 1000) break;
  }
  await assertNoLeaks(pair);
}, { timeoutMs: 300_000 + seconds * 2000 });
