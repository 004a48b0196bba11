// The primary's server dies (kill -9 of agent and PostgreSQL) under load. The application, which knows both hosts, goes on
// through failover and handback with nothing but reconnections, and finds every acknowledged write on both sides.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, failover, makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { checkHistory, makeTpcb, startTpcb } from "../helpers/tpcb.ts";
import { waitFor } from "../helpers/wait.ts";

scopedTest("the application goes through failover and handback, and loses nothing", async (scope) => {
  const pair = await makePair(scope, { load: (sql) => makeTpcb(sql, { branches: 4 }) });
  const { primary, secondary } = pair;
  const load = startTpcb(pair.target, { clients: 4, branches: 4, thinkMs: 5 });
  scope.defer("load", async () => void await load.stop());
  await waitFor(() => load.acknowledged >= 200, { what: "200 transactions", deadlineMs: 20_000 });

  const before = (await secondary.status()).node.epoch;
  const killedAt = performance.now();
  primary.kill();
  const atKill = load.acknowledged;
  await waitFor(() => load.acknowledged > atKill + 4, {
    what: "writes on the secondary",
    deadlineMs: 20_000,
    everyMs: 5,
  });
  const outageMs = performance.now() - killedAt;
  console.log(`writes again ${outageMs.toFixed(0)} ms after the kill`);
  assert.ok(
    outageMs <= failover.after_ms + 1000,
    `writes must be taken within ${failover.after_ms + 1000} ms, not ${outageMs}`,
  );
  const serving = await secondary.waitServing();
  assert.ok(serving.node.writable);
  assert.ok(serving.node.epoch > before, "another serves, so the epoch is higher");
  assert.equal(serving.peer.reachable, false);

  const alone = load.acknowledged;
  await waitFor(() => load.acknowledged >= alone + 200, { what: "200 more on the secondary", deadlineMs: 20_000 });
  primary.start();
  await waitSteady(pair);
  const back = load.acknowledged;
  await waitFor(() => load.acknowledged >= back + 100, { what: "100 more after the handback", deadlineMs: 20_000 });
  const report = await load.stop();
  console.log(
    `${report.acknowledged.length} acknowledged, ${report.reconnections} reconnections, ` +
      `${report.readOnlyRefusals} refusals, longest gap ${report.longestGapMs.toFixed(0)} ms`,
  );
  assert.deepEqual(report.errors, [], "a client that follows the pair sees reconnections only");
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await checkHistory(primary.superuser, [report]), { missing: [], doubled: [], invented: [] });
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
