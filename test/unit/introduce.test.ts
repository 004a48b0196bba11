// A new secondary at its primary over loopback: the one-time identity is given up once the join is over, and not because the
// primary still trusts what it had pinned for this node before.
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { Hono } from "hono";
import { introduce } from "../../agent/api/introduce.ts";
import { answerErrors } from "../../agent/api/problems.ts";
import { type PeerEnv, type PeerListener, servePeers } from "../../agent/api/serve.ts";
import { RefusedError, UnreachableError } from "../../agent/errors.ts";
import { homeAt } from "../../agent/home.ts";
import { makeIdentity, writeIdentity } from "../../agent/trust/certificates.ts";
import { joinIdentityPaths } from "../../agent/trust/join.ts";
import { reportOf } from "../helpers/report.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";

type Answer = "joined" | "refused" | "lost";

/** A primary that has this node pinned already, as after a reseed, with a join open; and the node. */
async function makeBoth(scope: Scope, answers: Answer[]) {
  const [primary, own, once] = await Promise.all(["a.example", "b.example", "join"].map((name) => makeIdentity(name)));
  const pinned = { pem: own.cert, use: "peer" as const };
  const identity = { cert: primary.cert, key: primary.key };
  const state = { open: true, asked: 0 };
  const app = new Hono<PeerEnv>();
  app.onError(answerErrors(() => {}));
  app.get("/v1/peer", (c) => c.json(reportOf()));
  app.post("/v1/join", (c) => {
    state.asked++;
    const answer = answers.shift();
    if (answer === "refused") throw new RefusedError("Cannot join: the disk is full", "make room");
    state.open = false;
    listener.reload({ ...identity, trusted: [pinned] });
    return answer === "lost" ? c.text("what a cut answer is like") : c.json({ pinned: true, name: "a.example" });
  });
  const listener: PeerListener = await servePeers({
    listen: { host: "127.0.0.1", port: 0 },
    tls: { ...identity, trusted: [pinned, { pem: once.cert, use: "join" }] },
    app,
    raw: {},
  });
  let stopped: Promise<void> | null = null;
  const stop = () => stopped ??= listener.close();
  scope.defer("the listener", stop);
  const home = homeAt(scope.dir);
  mkdirSync(home.trustDir, { recursive: true });
  const paths = joinIdentityPaths(home);
  writeIdentity(paths.cert, paths.key, once);
  const join = () =>
    introduce({
      home,
      address: { host: "127.0.0.1", port: listener.port },
      pinned: primary.cert,
      own,
      self: { name: "b.example", pair_id: "p", generation: "g" },
    });
  return { state, join, stop, given: () => !existsSync(paths.cert) && !existsSync(paths.key) };
}

scopedTest("a join that failed is tried again, also where the primary knows this node from before", async (scope) => {
  const { state, join, given } = await makeBoth(scope, ["refused", "joined"]);
  await assert.rejects(join(), /the disk is full/);
  assert.deepEqual([state.open, given()], [true, false]);
  await join();
  assert.deepEqual([state.open, given()], [false, true]);
  await join();
  assert.equal(state.asked, 2, "once it is over nobody asks again");
});

scopedTest("a join whose answer was lost is over at the next try", async (scope) => {
  const { state, join, given } = await makeBoth(scope, ["lost"]);
  await assert.rejects(join());
  assert.equal(given(), false);
  await join();
  assert.deepEqual([state.asked, state.open, given()], [1, false, true]);
});

scopedTest("a primary that cannot be reached has not joined it", async (scope) => {
  const { join, given, stop } = await makeBoth(scope, []);
  await stop();
  await assert.rejects(join(), UnreachableError);
  assert.equal(given(), false);
});
