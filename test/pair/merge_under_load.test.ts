// A merge beside an application that never rests and always writes the same few rows: the applier and it are in each
// other's way all the time, and the merge comes to its end all the same.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { makeTpcb, startTpcb } from "../helpers/tpcb.ts";
import { waitFor } from "../helpers/wait.ts";

scopedTest("a merge ends while the primary is written to as fast as it goes", async (scope) => {
  const pair = await makePair(scope, { link: true, load: async (sql) => await makeTpcb(sql) });
  const { primary, secondary, link } = pair;
  link.cut();
  await secondary.waitServing();
  const [hostA, hostB] = pair.target.hosts;
  const here = startTpcb({ ...pair.target, hosts: [hostA] }, { clients: 4, name: "here" });
  const there = startTpcb({ ...pair.target, hosts: [hostB] }, { clients: 4, name: "there" });
  await waitFor(() => here.acknowledged > 300 && there.acknowledged > 300, { deadlineMs: 60_000, what: "two loads" });
  await there.stop();
  link.heal();
  await waitSteady(pair, 60_000);
  const { errors } = await here.stop();
  assert.deepEqual(errors.filter((text) => !/deadlock/.test(text)), [], "the application sees nothing but that");
  await waitEqual(primary.superuser, secondary.superuser);
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
