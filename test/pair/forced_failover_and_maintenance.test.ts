// In maintenance the secondary does not take over from a dead primary until an operator says so. The hook on role change is
// told what each node becomes; one that fails is an alarm and keeps nobody from serving.
import assert from "node:assert/strict";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, failover, makePair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { makeVault } from "../helpers/vault.ts";
import { waitFor } from "../helpers/wait.ts";

const alertsOf = async (node: PairNode) => (await node.status()).alerts.map(({ name }) => name);

scopedTest("maintenance, a dead primary, a failover by order, the primary back; and the hooks of it", async (scope) => {
  const pair = await makePair(scope, { load: (sql) => makeVault(sql) });
  const { primary, secondary } = pair;
  const script = join(scope.dir, "hook");
  const told = join(scope.dir, "told");
  const write = (body: string) => {
    writeFileSync(script, `#!/bin/sh\n${body}\n`);
    chmodSync(script, 0o755);
  };
  const calls = () => existsSync(told) ? readFileSync(told, "utf8").trimEnd().split("\n") : [];
  write(`echo "$@" >>${told}`);

  await secondary.stop();
  secondary.configure({ hooks: { on_role_change: script } });
  secondary.start();
  await waitSteady(pair);
  await waitFor(() => calls().length === 1, { what: "the hook at the start", deadlineMs: 20_000 });

  const asked = JSON.parse((await primary.agent(["maintenance", "on", "--json"])).stdout);
  assert.equal(asked.maintenance, true);
  for (const node of [primary, secondary]) {
    assert.ok((await alertsOf(node)).includes("maintenance"), `the ${node.role} says that maintenance is on`);
  }
  await primary.agent(["maintenance", "on"]); // asked twice, it is on
  await primary.app(pair.target)`INSERT INTO vault.folder (name) VALUES ('before')`;
  await waitEqual(primary.superuser, secondary.superuser);

  primary.kill();
  await secondary.waitStatus("in sight of nobody", (s) => !s.peer.reachable);
  // Longer than it would take to serve if it took over by itself.
  await pause(failover.after_ms + 1500);
  const standby = await secondary.status();
  assert.deepEqual([standby.node.state, standby.node.writable], ["standby", false]);
  const refused = await secondary.agent(["switchover", "--to", "secondary"], { expect: 4 });
  assert.match(refused.stderr, /^Cannot switch over: 127\.0\.0\.1 does not answer.*\nTry: .*agent failover/);

  // Restarted in between, it still knows.
  await secondary.stop();
  write("exit 3");
  secondary.start();
  await secondary.waitStatus("in sight of nobody", (s) => s.node.state === "standby" && !s.peer.reachable);
  await pause(failover.after_ms + 1500);
  assert.equal((await secondary.status()).node.state, "standby");

  const done = JSON.parse((await secondary.agent(["failover", "--yes", "--json"])).stdout);
  assert.deepEqual([done.node.state, done.node.writable], ["serving", true]);
  const serving = await secondary.waitServing();
  assert.match(serving.node.why, /operator asked for a failover/);
  await secondary.waitStatus("alarmed by its hook", (s) => s.alerts.some(({ name }) => name === "hook"));
  await secondary.app(pair.target)`INSERT INTO vault.folder (name) VALUES ('meanwhile')`;
  const again = await secondary.agent(["failover", "--yes"], { expect: 3 });
  assert.match(again.stderr, /serves already/);

  write(`echo "$@" >>${told}`);
  primary.start();
  await waitSteady(pair);
  await waitFor(() => calls().at(-1)?.includes(" standby "), { what: "the hook of standby", deadlineMs: 20_000 });
  await secondary.waitStatus("free of the hook's alarm", (s) => !s.alerts.some(({ name }) => name === "hook"));
  const name = secondary.host;
  assert.equal(calls()[0], `on_role_change secondary standby ${name}`);
  assert.equal(calls().at(-1), `on_role_change secondary standby ${name}`);
  for (const node of [primary, secondary]) assert.ok((await alertsOf(node)).includes("maintenance"));

  // Off, asked for at the other node; then it takes over by itself again.
  await secondary.agent(["maintenance", "off"]);
  for (const node of [primary, secondary]) assert.ok(!(await alertsOf(node)).includes("maintenance"));
  await waitEqual(primary.superuser, secondary.superuser);
  const [{ count }] = await primary.superuser`
    SELECT count(*)::int AS count FROM vault.folder WHERE name IN ('before', 'meanwhile')`;
  assert.equal(count, 2);
  secondary.kill();
  await primary.waitStatus("in sight of nobody", (s) => !s.peer.reachable);
  const unsure = await primary.agent(["maintenance", "on"], { expect: 4 });
  assert.match(unsure.stderr, /^Cannot begin maintenance: .* may take over by itself\nTry: /);
  secondary.start();
  await waitSteady(pair);
  primary.kill();
  await secondary.waitServing();
  primary.start();
  await waitSteady(pair);
  await assertNoLeaks(pair);
}, { timeoutMs: 240_000 });

scopedTest(
  "a cut link: a forced failover splits the pair, and it merges; a bad hook in agent.toml is refused",
  async (scope) => {
    const pair = await makePair(scope, { link: true, load: (sql) => makeVault(sql) });
    const { primary, secondary, link } = pair;
    await primary.agent(["maintenance", "on"]);
    link.cut();
    const failed = JSON.parse((await secondary.agent(["failover", "--yes", "--json"])).stdout);
    assert.equal(
      failed.node.state,
      "serving",
      "asked right after the cut, it waits until the primary is known to be silent",
    );
    await primary.app(pair.target)`INSERT INTO vault.folder (name) VALUES ('at the primary')`;
    await secondary.app(pair.target)`INSERT INTO vault.folder (name) VALUES ('at the secondary')`;
    link.heal();
    await waitSteady(pair);
    await waitEqual(primary.superuser, secondary.superuser);
    const [{ count }] = await secondary.superuser`
    SELECT count(*)::int AS count FROM vault.folder WHERE name LIKE 'at the %'`;
    assert.equal(count, 2);

    // Handed over in maintenance, and cut off: the primary waits for an order.
    await primary.agent(["switchover"]);
    link.cut();
    await primary.waitStatus("in sight of nobody", (s) => !s.peer.reachable);
    await pause(failover.peer_wait_ms + 1000);
    assert.equal((await primary.status()).node.writable, false);
    await primary.agent(["failover", "--yes"]);
    assert.ok((await primary.status()).node.writable);
    link.heal();
    await waitSteady(pair);
    await secondary.agent(["maintenance", "off"]);
    await waitEqual(primary.superuser, secondary.superuser);

    await secondary.stop();
    secondary.configure({ hooks: { on_role_change: "hook.sh" } });
    const ran = await secondary.agent(["run"], { expect: 2 });
    assert.match(ran.stderr, /hooks\.on_role_change: must be the full path/);
  },
  { timeoutMs: 240_000 },
);
