// Transactions that are open when the service is handed over. A session's may commit until fence_timeout_ms is over, then the
// session is ended. One that is prepared for two-phase commit belongs to no session: no fence can end it, and it may commit
// when nobody expects it any more; so who serves goes on serving until it is done. What committed is on both sides.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { openClient } from "../helpers/follower.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";
import { missingNotes, noteTable, Writer } from "../helpers/writer.ts";

const alertsOf = async (node: PairNode) => (await node.status()).alerts.map(({ name }) => name);

/** A client of that node alone: whoever serves on goes on taking its writes. */
function writerOn(scope: Scope, node: PairNode, { target }: Pair): Writer {
  const sql = openClient(target, { name: node.role, host: { host: node.host, port: node.pgPort } });
  scope.defer(`the client of the ${node.role}`, () => sql.end({ timeout: 1 }));
  return new Writer(scope, node.role, (tag) => sql`INSERT INTO note (tag) VALUES (${tag})`.then(() => {}));
}

/** Leaves a prepared transaction behind; what commits it. */
async function prepare(node: PairNode, { target }: Pair, tag: string): Promise<() => Promise<void>> {
  const app = await node.app(target).reserve();
  await app.unsafe(`BEGIN; INSERT INTO note (tag) VALUES ('${tag}'); PREPARE TRANSACTION '${tag}'`).simple();
  app.release();
  return async () => void await node.app(target).unsafe(`COMMIT PREPARED '${tag}'`).simple();
}

/** A session in the middle of a transaction that has written. */
async function begin(scope: Scope, node: PairNode, { target }: Pair, tag: string) {
  const session = await node.app(target).reserve();
  scope.defer(`the session of ${tag}`, () => session.release());
  await session.unsafe(`BEGIN; INSERT INTO note (tag) VALUES ('${tag}')`).simple();
  return session;
}

async function tagsOf({ superuser }: PairNode, pattern: string): Promise<string[]> {
  return (await superuser<{ tag: string }[]>`SELECT tag FROM note WHERE tag LIKE ${pattern} ORDER BY 1`).map((
    { tag },
  ) => tag);
}

scopedTest("neither handback nor switchover leaves an open transaction behind", async (scope) => {
  const pair = await makePair(scope, {
    load: async (sql, { primary }) => {
      await sql.unsafe(noteTable);
      await primary.superuser`ALTER SYSTEM SET max_prepared_transactions = 5`;
      await primary.stop();
      primary.start();
      await primary.waitServing();
    },
    failover: { fence_timeout_ms: 2500 },
  });
  const { primary, secondary } = pair;

  primary.kill();
  await secondary.waitServing();
  const commitHere = await prepare(secondary, pair, "prepared at the secondary");
  const onSecondary = writerOn(scope, secondary, pair);
  primary.start();
  const waiting = await secondary.waitStatus(
    "handing back, and kept from it",
    ({ node, alerts }) => node.state === "handing_back" && alerts.some(({ name }) => name === "prepared"),
  );
  assert.match(waiting.alerts.find(({ name }) => name === "prepared")!.message, /^1 prepared transaction is open here/);
  await primary.waitStatus("level with the secondary", ({ incoming }) => incoming.pending_bytes === 0);
  await onSecondary.more(50, "while the handback waits");
  const { node } = await secondary.status();
  assert.deepEqual([node.state, node.since], ["handing_back", waiting.node.since]);
  await commitHere();
  await waitSteady(pair);
  await onSecondary.stop();
  await waitEqual(primary.superuser, secondary.superuser);

  const onPrimary = writerOn(scope, primary, pair);
  const commitThere = await prepare(primary, pair, "prepared at the primary");
  const refused = await primary.agent(["switchover"], { expect: 3 });
  assert.match(refused.stderr, /1 prepared transactions are open: .*\nTry: COMMIT PREPARED/);
  // The secondary does not know of it; the order is kept until it is called off.
  const inVain = await secondary.agent(["switchover", "--timeout", "3"], { expect: 1 });
  assert.match(inVain.stderr, /not done after 3 s|called off/);
  assert.equal((await primary.status()).node.state, "serving");
  await onPrimary.more(20, "after a switchover that could not be");
  await commitThere();

  const inTime = await begin(scope, primary, pair, "open, committed in time");
  const never = await begin(scope, primary, pair, "open, never committed");
  const switched = primary.agent(["switchover"]);
  await waitFor(async () => (await primary.superuser`SELECT ha.guard_is_open() AS open`)[0].open === false, {
    what: "the guard to close",
    deadlineMs: 20_000,
    everyMs: 5,
  });
  await inTime`COMMIT`;
  await switched;
  await assert.rejects(never.unsafe("COMMIT").simple(), "its session was ended");
  await primary.agent(["switchover", "--to", "primary"]);
  await waitSteady(pair);
  assert.ok(!(await alertsOf(primary)).includes("prepared"));

  await onPrimary.more(20, "in the end");
  await onPrimary.stop();
  await waitEqual(primary.superuser, secondary.superuser);
  for (const node of [primary, secondary]) {
    assert.deepEqual(await missingNotes(node.superuser, [onPrimary, onSecondary]), []);
    assert.deepEqual(await tagsOf(node, "prepared at %"), ["prepared at the primary", "prepared at the secondary"]);
    assert.deepEqual(await tagsOf(node, "open, %"), ["open, committed in time"]);
  }
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
