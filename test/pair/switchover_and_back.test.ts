// An operator moves the service to the secondary and back while the application writes: no acknowledged write is missing,
// never do both take writes, and a switchover survives whatever is restarted on the way.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { checkHistory, makeTpcb, startTpcb } from "../helpers/tpcb.ts";
import { waitFor } from "../helpers/wait.ts";

const alertsOf = async (node: PairNode) => (await node.status()).alerts.map(({ name }) => name);

/** The secondary serves, the primary follows it, and both say so. */
async function waitSwitchedOver({ primary, secondary }: Pair, deadlineMs = 60_000): Promise<void> {
  await secondary.waitStatus(
    "serving, in sight of a primary that follows",
    (s) => s.node.state === "serving" && s.node.writable && s.peer.reachable && s.peer.state === "catching_up",
    deadlineMs,
  );
  await primary.waitStatus(
    "following a secondary that serves",
    (s) => s.node.state === "catching_up" && !s.node.writable && s.peer.reachable && s.peer.state === "serving",
    deadlineMs,
  );
  for (const node of [primary, secondary]) {
    assert.ok((await alertsOf(node)).includes("switched_over"), `the ${node.role} says who is to serve`);
  }
}

/** Asks both guards again and again, until it is stopped, whether both are open at once. */
function watchBoth({ primary, secondary }: Pair): () => Promise<{ looks: number; both: number }> {
  let going = true;
  const seen = { looks: 0, both: 0 };
  const open = async (node: PairNode) => (await node.superuser`SELECT ha.guard_is_open() AS open`)[0].open as boolean;
  const watching = (async () => {
    while (going) {
      // The second look at the first comes after the one at the other: open before and after is open meanwhile.
      const [before, other, after] = [await open(primary), await open(secondary), await open(primary)];
      seen.looks++;
      if (before && other && after) seen.both++;
      await pause(2);
    }
  })();
  return async () => {
    going = false;
    await watching;
    return seen;
  };
}

scopedTest(
  "a switchover and back under load: nothing acknowledged is missing, never do both take writes",
  async (scope) => {
    const pair = await makePair(scope, { load: (sql) => makeTpcb(sql, { branches: 4 }) });
    const { primary, secondary } = pair;
    const stopWatching = watchBoth(pair);
    const load = startTpcb(pair.target, { clients: 4, branches: 4, thinkMs: 5 });
    scope.defer("load", async () => void await load.stop());
    const more = async (count: number, what: string) => {
      const before = load.acknowledged;
      await waitFor(() => load.acknowledged >= before + count, { what, deadlineMs: 30_000 });
    };
    await more(200, "200 transactions");
    const epoch = (await primary.status()).node.epoch;

    // Over and back, asked once here and once there.
    for (const [over, back] of [[primary, primary], [secondary, secondary], [primary, secondary]]) {
      const ordered = JSON.parse((await over.agent(["switchover", "--json"])).stdout);
      assert.equal(ordered.serves, "secondary");
      console.log(`asked at the ${over.role}: the secondary serves after ${ordered.seconds} s`);
      await waitSwitchedOver(pair);
      await more(100, "100 transactions on the secondary");
      const again = await over.agent(["switchover", "--to", "secondary"], { expect: 3 });
      assert.match(again.stderr, /^Cannot switch over to the secondary: .* serves already\nTry: agent switchover/);
      const returned = JSON.parse((await back.agent(["switchover", "--to", "primary", "--json"])).stdout);
      assert.equal(returned.serves, "primary");
      console.log(`asked at the ${back.role}: the primary serves after ${returned.seconds} s`);
      await waitSteady(pair);
      assert.ok(!(await alertsOf(secondary)).includes("switched_over"));
      await more(100, "100 transactions on the primary");
    }
    const report = await load.stop();
    console.log(
      `${report.acknowledged.length} acknowledged, ${report.reconnections} reconnections, ` +
        `${report.readOnlyRefusals} refusals, longest gap ${report.longestGapMs.toFixed(0)} ms`,
    );
    assert.deepEqual(report.errors, []);
    const { looks, both } = await stopWatching();
    console.log(`${looks} looks at both guards`);
    assert.equal(both, 0, "both took writes at once");
    assert.ok((await primary.status()).node.epoch >= epoch + 6, "each change of who serves raises the epoch");
    await waitEqual(primary.superuser, secondary.superuser);
    assert.deepEqual(await checkHistory(primary.superuser, [report]), { missing: [], doubled: [], invented: [] });
    const [{ conflicts }] = await primary.superuser`SELECT count(*)::int AS conflicts FROM ha.conflict`;
    assert.equal(conflicts, 0);
    await assertNoLeaks(pair);
  },
  { timeoutMs: 240_000 },
);

scopedTest("a switchover outlives restarts of agents and servers, and what it would hurt is refused", async (scope) => {
  const pair = await makePair(scope, { load: (sql) => makeTpcb(sql, { branches: 1 }) });
  const { primary, secondary } = pair;
  const load = startTpcb(pair.target, { clients: 2, thinkMs: 5 });
  scope.defer("load", async () => void await load.stop());
  await waitFor(() => load.acknowledged >= 50, { what: "50 transactions", deadlineMs: 20_000 });

  const refused = async (node: PairNode, args: string[], code: number, says: RegExp) => {
    const { stderr } = await node.agent(args, { expect: code });
    assert.match(stderr, says);
    assert.match(stderr, /^Cannot [^\n]+: [^\n]+\nTry: [^\n]+\n$/);
  };
  await refused(primary, ["switchover", "--to", "primary"], 3, /127\.0\.0\.1 serves already/);
  await refused(primary, ["switchover", "--to", "both"], 2, /Cannot run this command: .*to <role>/);
  await refused(primary, ["switchover", "--timeout", "0"], 2, /1 to 86400/);
  await refused(primary, ["failover"], 2, /nobody is there to be asked/);
  await refused(primary, ["failover", "--yes"], 3, /serves already/);
  await refused(secondary, ["failover", "--yes"], 3, /can be reached and is serving.*\nTry: agent switchover/);
  await refused(primary, ["maintenance", "perhaps"], 2, /on or off/);

  // A secondary that cannot get to the fence: called off, and the primary takes writes again.
  const blocker = await secondary.superuser.reserve();
  await blocker.unsafe("BEGIN READ WRITE; LOCK TABLE pgbench_history IN SHARE MODE").simple();
  await refused(primary, ["switchover", "--timeout", "3"], 1, /not done after 3 s|called off/);
  await primary.waitServing();
  const blocked = load.acknowledged;
  await waitFor(() => load.acknowledged >= blocked + 50, {
    what: "writes after it was called off",
    deadlineMs: 20_000,
  });
  await blocker.unsafe("ROLLBACK").simple();
  blocker.release();
  await waitSteady(pair);

  // Any moment of it will do: the agent that was asked dies, then the other, then both servers.
  const blows: [name: string, strike: () => void][] = [
    ["primary's agent", () => primary.killAgent()],
    ["secondary's agent", () => secondary.killAgent()],
  ];
  for (const [name, strike] of blows) {
    const asked = primary.agent(["switchover", "--to", "secondary"]).then(() => "done", () => "lost");
    await waitFor(async () => (await secondary.superuser`SELECT ha.guard_is_open() AS open`)[0].open, {
      what: "the secondary's guard to open",
      deadlineMs: 20_000,
      everyMs: 5,
    });
    strike();
    // At once, as a service manager does: an agent that stays away for long is lost, and the other node serves.
    for (const node of [primary, secondary]) if (!node.isRunning) node.start();
    await asked;
    await waitSwitchedOver(pair);
    console.log(`${name} killed: the secondary serves, ${load.acknowledged} acknowledged`);
    await secondary.agent(["switchover", "--to", "primary"]);
    await waitSteady(pair);
  }
  await primary.agent(["switchover"]);
  await waitSwitchedOver(pair);
  primary.kill();
  secondary.kill();
  for (const node of [primary, secondary]) node.start();
  await waitSwitchedOver(pair);

  // The node that serves is lost: the one that handed over serves after peer_wait_ms, and then the order is over.
  secondary.kill();
  await primary.waitServing();
  await refused(primary, ["switchover", "--to", "secondary"], 4, /does not answer/);
  secondary.start();
  await waitSteady(pair);
  const before = load.acknowledged;
  await waitFor(() => load.acknowledged >= before + 50, { what: "50 more", deadlineMs: 20_000 });
  const report = await load.stop();
  assert.deepEqual(report.errors, []);
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await checkHistory(primary.superuser, [report]), { missing: [], doubled: [], invented: [] });
  await primary.stop();
  await refused(primary, ["switchover"], 4, /Cannot reach the agent/);
  await refused(primary, ["failover", "--yes"], 4, /Cannot reach the agent/);
  await refused(primary, ["maintenance", "on"], 4, /Cannot reach the agent/);
  primary.start();
  await waitSteady(pair);
  await assertNoLeaks(pair);
}, { timeoutMs: 240_000 });
