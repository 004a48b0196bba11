// Random histories on two real servers and the compiled agents: both sides write, the link is cut and healed, at rest or in
// the middle of a merge. Whenever it rests: both equal, no version lost unlogged, no false conflict, no rule broken.
// HISTORY_SEED repeats a run; HISTORIES (side by side) and HISTORY_SPLITS make it longer.
import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import fc from "fast-check";
import { sumTable, waitEqual } from "../helpers/equality.ts";
import { Ledger } from "../helpers/ledger.ts";
import { makePair, waitSteady } from "../helpers/pair.ts";
import {
  broken,
  historyPolicies,
  historyTables,
  plain,
  runWrite,
  type Write,
  writes,
} from "../helpers/random_history.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

const seed = Number(process.env.HISTORY_SEED ?? Math.floor(Math.random() * 2 ** 31));
const count = Number(process.env.HISTORIES ?? 60);
const splits = Number(process.env.HISTORY_SPLITS ?? 6);

/** What every history does in one split, and after it. */
const epoch = fc.record({
  cut: fc.array(writes(2, 16), { minLength: count, maxLength: count }),
  /** Once the secondary hands back, and still serves; what the primary says to it comes so much later. */
  healing: fc.array(writes(1, 8), { minLength: count, maxLength: count }),
  lagMs: fc.constantFrom(0, 100, 700),
  /** Wait for the end of the merge; else the link is cut again after so many ms. */
  rests: fc.boolean(),
  afterMs: fc.nat(1500),
});

scopedTest(`random histories end equal, and nothing is lost`, async (scope) => {
  console.log(`HISTORY_SEED=${seed}`);
  const pair = await makePair(scope, {
    link: true,
    load: async (sql, { primary }) => {
      await sql.unsafe(historyTables).simple();
      appendFileSync(join(primary.home, "conf", "agent.toml"), historyPolicies);
    },
  });
  const { primary, secondary, link } = pair;
  const apps = { primary: primary.app(pair.target), secondary: secondary.app(pair.target) };
  const ledger = new Ledger();
  const told: string[] = [];
  scope.account(() => told.join("\n"));

  /** Each history's writes in their order, the histories in turns. */
  const run = async (histories: readonly (readonly Write[])[]) => {
    for (let turn = 0; histories.some((writes) => turn < writes.length); turn++) {
      for (const [history, writes] of histories.entries()) {
        const next = writes[turn];
        if (!next) continue;
        const done = await runWrite(apps[next.who], ledger, history, next);
        if (done) told.push(`${history}: ${next.who} ${JSON.stringify(next.steps)} ${JSON.stringify(done)}`);
      }
    }
  };

  for (
    const [index, { cut, healing, lagMs, rests, afterMs }] of fc.sample(epoch, { seed, numRuns: splits }).entries()
  ) {
    link.cut();
    await secondary.waitServing();
    told.push(`--- split ${index + 1}`);
    await run(cut);
    link.aToB.delayMs = lagMs;
    link.heal();
    await secondary.waitStatus("back in sight of the primary", ({ node }) => node.state !== "serving");
    told.push("--- healing");
    await run(healing);
    link.aToB.delayMs = 0;
    if (!rests && index < splits - 1) {
      await pause(afterMs); // any moment of the merge will do
      continue;
    }
    told.push("--- at rest");
    await waitSteady(pair);
    await waitEqual(primary.superuser, secondary.superuser);
    const conflicts = await waitFor(async () => {
      const [here, there] = await Promise.all([primary, secondary].map((n) => sumTable(n.superuser, "ha.conflict")));
      assert.deepEqual(there, here);
      return here;
    }, { what: "the log to be the same on both sides", deadlineMs: 20_000 });
    assert.deepEqual(await ledger.lost(primary.superuser), [], "every version stands, is in the log, or was seen");
    const noConflicts = await ledger.falseConflicts(primary.superuser, plain.map((table) => `public.${table}`), "v");
    assert.deepEqual(noConflicts, [], "what saw the other is no conflict");
    for (const { superuser } of [primary, secondary]) {
      assert.deepEqual(
        (await superuser.unsafe(broken)).map(({ what }) => what),
        [],
        "no row refers to one that is gone",
      );
    }
    console.log(`split ${index + 1}: ${ledger.size} versions, ${conflicts.rows} conflicts so far`);
    ledger.clear();
  }
}, { timeoutMs: 240_000 + splits * 30_000 });
