// Both agents may be started in either order, and stopped in either order, and always end as a working pair.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, failover, makePair, waitSteady } from "../helpers/pair.ts";
import { postmasterPid } from "../helpers/processes.ts";
import { scopedTest } from "../helpers/scope.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";

scopedTest("secondary first, primary first, at once: each ends as a working pair", async (scope) => {
  const pair = await makePair(scope, { load: makeVault });
  const { primary, secondary } = pair;
  let account = 0;
  const rounds = [
    { name: "secondary first", stop: [primary, secondary], start: [secondary, primary], gapMs: 500 },
    { name: "primary first", stop: [secondary, primary], start: [primary, secondary], gapMs: 500 },
    {
      name: "secondary long before",
      stop: [primary, secondary],
      start: [secondary, primary],
      gapMs: failover.after_ms * 2,
    },
    {
      name: "primary long before",
      stop: [primary, secondary],
      start: [primary, secondary],
      gapMs: failover.peer_wait_ms * 2,
    },
    { name: "at once", stop: [secondary, primary], start: [primary, secondary], gapMs: 0 },
  ];
  for (const { name, stop, start, gapMs } of rounds) {
    for (const node of stop) {
      await node.stop();
      assert.equal(postmasterPid(node.pgdata), undefined, `${name}: PostgreSQL is stopped with its agent`);
      assert.ok(!existsSync(join(node.home, "run", "agent.sock")), `${name}: the admin socket is gone`);
    }
    start[0].start();
    await pause(gapMs); // not a wait for anything: the gap is what is being tried
    start[1].start();
    await waitSteady(pair);
    await changePassword(primary.app(pair.target), ++account, 1);
    await waitEqual(primary.superuser, secondary.superuser);
    console.log(`${name}: steady, epoch ${(await primary.status()).node.epoch}`);
  }
  await assertNoLeaks(pair);
}, { timeoutMs: 300_000 });
