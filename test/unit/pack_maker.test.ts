// The primary's making of a pack for a secondary that asks: one at a time, and its end is told to who began it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { peerApp, type PeerSide } from "../../agent/api/peer_routes.ts";
import { RefusedError } from "../../agent/errors.ts";
import { type Making, PackMaker } from "../../agent/node/pack_maker.ts";
import type { Steps } from "../../agent/setup/steps.ts";
import { reportOf } from "../helpers/report.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

function maker({ refuse = () => {}, serves = () => true }: Partial<Making> = {}) {
  const runs: { steps: Steps; end: (error?: Error) => void }[] = [];
  const make = (steps: Steps) =>
    new Promise<void>((resolve, reject) => runs.push({ steps, end: (error) => error ? reject(error) : resolve() }));
  const making = new PackMaker({ make, refuse, serves });
  return { making, runs };
}

test("one is made at a time; asked again, it tells how far it is and how it ended", async () => {
  const { making, runs } = maker();
  const { id, state } = making.ask(null);
  assert.equal(state, "making");
  assert.equal(making.ask(null).id, id, "who asks meanwhile gets the same");
  runs[0].steps.progress("pack")(10, 100);
  assert.deepEqual(making.ask(id), { id, state: "making", bytes: 10, total: 100, error: null, remedy: null });
  runs[0].end();
  await turn();
  assert.equal(making.ask(id).state, "made");
  assert.throws(() => making.ask("another"), RefusedError);

  const second = making.ask(null);
  assert.notEqual(second.id, id, "what is made is not asked for again by mistake");
  runs[1].end(new RefusedError("Cannot make it: no room", "make room"));
  await turn();
  const { error, remedy, state: ended } = making.ask(second.id);
  assert.deepEqual([ended, error, remedy], ["failed", "Cannot make it: no room", "make room"]);
  assert.equal(making.ask(null).state, "making", "after a failure it may be tried again");
  assert.equal(runs.length, 3);
});

test("where it is refused nothing begins", () => {
  const { making, runs } = maker({
    refuse: () => {
      throw new RefusedError("Cannot make a pack: this is the secondary", "ask the primary");
    },
  });
  assert.throws(() => making.ask(null), /this is the secondary/);
  assert.equal(runs.length, 0);
});

test("a primary that does not serve yet begins nothing, and is asked again", () => {
  let serves = false;
  const { making, runs } = maker({ serves: () => serves });
  const { id, state } = making.ask(null);
  assert.deepEqual([id, state, runs.length], [null, "waiting", 0]);
  serves = true;
  const begun = making.ask(id);
  assert.deepEqual([begun.state, runs.length], ["making", 1]);
  serves = false;
  assert.equal(making.ask(begun.id).state, "making", "what is begun goes on");
});

test("POST /v1/pack/new asks for it", async () => {
  const { making } = maker();
  // Nothing else of the node is asked for here.
  const app = peerApp({ report: () => reportOf(), packs: making } as unknown as PeerSide);
  const post = async (body: unknown) => {
    const answer = await app.request("/v1/pack/new", {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
    });
    return { status: answer.status, body: await answer.json() };
  };
  const begun = await post({ id: null });
  assert.deepEqual([begun.status, begun.body.state], [200, "making"]);
  assert.deepEqual(await post({ id: begun.body.id }), begun);
  assert.equal((await post({ id: "another" })).status, 409);
  assert.equal((await post({})).status, 400);
  assert.equal((await app.request("/v1/pack/new")).status, 405);
});
