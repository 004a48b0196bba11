// An application that nobody here wrote (pg-boss, a job queue, which makes its own schema and data) goes through seed,
// replication, failover and the merge after a split.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { makeJobs, openJobs, workJobs } from "../helpers/sample_schema.ts";
import { scopedTest } from "../helpers/scope.ts";
import { type ClientTarget, openClient } from "../helpers/follower.ts";

scopedTest("pg-boss is seeded, replicated, fails over, and is merged after a split", async (scope) => {
  const connect = (target: ClientTarget) => {
    const sql = openClient(target, { name: "worker" });
    scope.defer("worker's connection", () => sql.end({ timeout: 1 }));
    return sql;
  };
  const pair = await makePair(scope, {
    link: true,
    load: (_, { target }) => makeJobs(connect({ ...target, hosts: [target.hosts[0]] })),
  });
  const { primary, secondary, link } = pair;
  const both = [primary.superuser, secondary.superuser] as const;
  await waitEqual(...both);

  const start = async (target: ClientTarget) => {
    const boss = await openJobs(connect(target));
    scope.defer("worker", () => boss.stop({ graceful: false }));
    return boss;
  };

  // A failover and back.
  const worker = await start({ ...pair.target, hosts: [pair.target.hosts[0]] });
  await workJobs(worker, ["mail", "invoice", "report"]);
  await waitEqual(...both);
  primary.kill();
  await secondary.waitServing();
  const [{ before }] = await secondary.superuser`SELECT count(*)::int AS before FROM jobs.job`;
  const substitute = await start({ ...pair.target, hosts: [pair.target.hosts[1]] });
  const sent = await workJobs(substitute, ["mail", "report"]);
  assert.ok(sent > 0);
  primary.start();
  await waitSteady(pair);
  await waitEqual(...both);
  const [{ after }] = await primary.superuser`SELECT count(*)::int AS after FROM jobs.job`;
  assert.ok(after > before - 10, "jobs sent on the secondary are on the primary");

  // A split: different queues are worked on each side.
  link.cut();
  await secondary.waitServing();
  const here = await start({ ...pair.target, hosts: [pair.target.hosts[0]] });
  const there = await start({ ...pair.target, hosts: [pair.target.hosts[1]] });
  await workJobs(here, ["mail"], 8);
  await workJobs(there, ["report"], 8);
  link.heal();
  await waitSteady(pair);
  await waitEqual(...both);
  const conflicts = await primary
    .superuser`SELECT kind, table_name, row_key, why FROM ha.conflict WHERE table_name LIKE 'job%'`;
  assert.deepEqual([...conflicts], [], "no job was touched on both sides");
  await assertNoLeaks(pair);
}, { timeoutMs: 240_000 });
