// Every kind of conflict under every policy, on the compiled agents: all cases of helpers/conflict_cases in one split of
// one pair, merged, and then looked at one by one on both sides. EVERY_CONFLICT=text runs those with the text in their id.
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import { everyCase } from "../helpers/conflict_cases/all.ts";
import {
  expectCase,
  type Outcome,
  readLog,
  readOutcomes,
  runSplit,
  setUpCases,
  touchEverything,
  writePolicies,
} from "../helpers/conflict_run.ts";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import type { Role } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { versions } from "../helpers/servers.ts";

const cases = everyCase.filter(({ id }) => id.includes(process.env.EVERY_CONFLICT ?? ""));

test("each case has a schema of its own", () => {
  assert.equal(new Set(everyCase.map(({ id }) => id)).size, everyCase.length);
  for (const { id } of everyCase) assert.match(id, /^[a-z][a-z_]{0,62}$/);
});

for (const version of versions) {
  const outcomes = new Map<Role, Map<string, Outcome>>();
  const failed = new Map<string, string>();

  scopedTest(`${version}: a split with every conflict is merged, and both sides are equal`, async (scope) => {
    const pair = await makePair(scope, {
      version,
      link: true,
      load: async (sql, { primary }) => {
        await setUpCases(sql, cases);
        writePolicies(primary, cases);
      },
    });
    const { primary, secondary, link } = pair;
    const apps = { primary: primary.app(pair.target), secondary: secondary.app(pair.target) };
    link.cut();
    await secondary.waitServing();
    for (const [id, why] of await runSplit(apps, cases)) failed.set(id, why);
    link.heal();
    let merged: unknown = null;
    try {
      await waitSteady(pair, 150_000);
      await waitEqual(primary.superuser, secondary.superuser);
    } catch (error) {
      merged = error;
    }
    for (const node of [primary, secondary]) outcomes.set(node.role, await readOutcomes(node.superuser, cases));
    if (merged) throw merged;
    const log = await readLog(primary.superuser);
    assert.deepEqual(await readLog(secondary.superuser), log, "the log is the same on both sides");
    for (const entry of log) assert.ok(entry.policy && entry.why, `each says its policy and why: ${entry.id}`);

    // Whatever was merged can be written again from either side, and nothing of the past is held against it.
    await touchEverything(apps.primary, cases);
    await waitEqual(primary.superuser, secondary.superuser);
    link.cut();
    await secondary.waitServing();
    await touchEverything(apps.secondary, cases);
    link.heal();
    await waitSteady(pair);
    await waitEqual(primary.superuser, secondary.superuser);
    const after = await readLog(primary.superuser);
    assert.deepEqual(after.slice(log.length), [], "later writes of one side at a time are no conflicts");
    await assertNoLeaks(pair);
  }, { timeoutMs: 400_000 });

  for (const each of cases) {
    test(`${version}: ${each.id}`, () => {
      assert.ok(outcomes.size > 0, "the split was merged far enough to be looked at");
      assert.equal(failed.get(each.id), undefined, "each step went as it is written");
      for (const [side, found] of outcomes) expectCase(each, found.get(each.id)!, side);
    });
  }
}
