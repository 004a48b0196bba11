// Every kind of conflict under every policy, rehearsed before it is merged: what the merge then logs is what the rehearsal
// said, entry by entry, and the rehearsal itself has left no trace.
import assert from "node:assert/strict";
import type { Rehearsal } from "../../agent/review/rehearsed.ts";
import { everyCase } from "../helpers/conflict_cases/all.ts";
import { readLog, runSplit, setUpCases, writePolicies } from "../helpers/conflict_run.ts";
import { sumTable, userTables, waitEqual } from "../helpers/equality.ts";
import { makePair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";

type Told = Rehearsal["conflicts"][number];

/** One line for each, in an order of their own. */
const lines = (entries: readonly Omit<Told, "policy">[]): string[] =>
  entries.map(({ kind, table, key, winner, why, quarantined }) =>
    JSON.stringify([table, kind, Object.entries(key).sort(), winner, quarantined, why])
  ).sort();

const sumsOf = async ({ superuser }: PairNode) =>
  await Promise.all([...await userTables(superuser), "ha.conflict"].map(async (table) => [
    table,
    await sumTable(superuser, table),
  ]));

scopedTest("whatever conflicts, the rehearsal says what the merge will log", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql, { primary }) => {
      await setUpCases(sql, everyCase);
      writePolicies(primary, everyCase);
    },
  });
  const { primary, secondary, link } = pair;
  await primary.agent(["merge", "--hold"]);
  link.cut();
  await secondary.waitServing();
  const apps = { primary: primary.app(pair.target), secondary: secondary.app(pair.target) };
  await runSplit(apps, everyCase);
  link.heal();
  await secondary.waitStatus("in sight of its primary", (s) => s.node.state === "handing_back" && s.peer.reachable);

  const before = await sumsOf(primary);
  const ran = await primary.agent(["merge", "--dry-run", "--json"], { timeoutMs: 300_000 });
  assert.deepEqual(await sumsOf(primary), before, "nothing was changed");
  const { conflicts, conflicts_found, summary }: Rehearsal = JSON.parse(ran.stdout);
  assert.ok(conflicts_found > everyCase.length / 2, `${conflicts_found} conflicts in ${everyCase.length} cases`);
  assert.equal(conflicts.length, conflicts_found);
  assert.equal(summary.reduce((sum, group) => sum + group.conflicts, 0), conflicts_found);

  await primary.agent(["merge", "--release"]);
  await waitSteady(pair, 150_000);
  await waitEqual(primary.superuser, secondary.superuser);
  const log = (await readLog(primary.superuser)).filter(({ loggedBy }) => loggedBy === "primary");
  const logged = log.map(({ schema, table, ...entry }) => ({ ...entry, table: `${schema}.${table}` }) as Told);
  assert.deepEqual(lines(conflicts), lines(logged));
}, { timeoutMs: 400_000 });
