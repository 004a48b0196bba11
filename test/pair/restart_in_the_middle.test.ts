// Agents and servers are killed again and again, in the middle of whatever they do, while the application writes.
// In the end both are equal, nothing acknowledged is missing, and nothing is there twice.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { checkHistory, makeTpcb, startTpcb } from "../helpers/tpcb.ts";
import { waitFor } from "../helpers/wait.ts";

type Blow = [name: string, strike: (pair: Pair) => void];

const blows: Blow[] = [
  ["secondary's agent", ({ secondary }) => secondary.killAgent()],
  ["secondary's PostgreSQL", ({ secondary }) => secondary.killPostgres()],
  ["secondary's server", ({ secondary }) => secondary.kill()],
  ["primary's agent", ({ primary }) => primary.killAgent()],
  ["primary's PostgreSQL", ({ primary }) => primary.killPostgres()],
  ["both agents", ({ primary, secondary }) => (primary.killAgent(), secondary.killAgent())],
  ["both PostgreSQLs", ({ primary, secondary }) => (primary.killPostgres(), secondary.killPostgres())],
  ["primary's server", ({ primary }) => primary.kill()],
  ["both servers", ({ primary, secondary }) => (primary.kill(), secondary.kill())],
];

scopedTest("killed at any point, both come back and end equal", async (scope) => {
  const pair = await makePair(scope, { load: (sql) => makeTpcb(sql, { branches: 4 }) });
  const { primary, secondary } = pair;
  const load = startTpcb(pair.target, { clients: 4, branches: 4, thinkMs: 2 });
  scope.defer("load", async () => void await load.stop());
  await waitFor(() => load.acknowledged > 100, { what: "100 transactions", deadlineMs: 20_000 });
  for (const [name, strike] of blows) {
    // A backlog of one large transaction among the small ones, so that the blow meets work that is under way.
    const before = load.acknowledged;
    await primary.superuser`UPDATE pgbench_accounts SET filler = md5(random()::text)`.catch(() => {
      // the round before may have left this side closed for now: the small transactions are backlog enough
    });
    strike(pair);
    await pause(Math.random() * 1500); // any moment will do
    for (const node of [secondary, primary]) if (!node.isRunning) node.start();
    await waitFor(() => load.acknowledged > before + 50, {
      what: `writes after the loss of ${name}`,
      deadlineMs: 60_000,
    });
    console.log(`${name}: writes go on, ${load.acknowledged} acknowledged`);
  }
  await waitSteady(pair, 90_000);
  const report = await load.stop();
  assert.deepEqual(report.errors, []);
  await waitEqual(primary.superuser, secondary.superuser, 60_000);
  assert.deepEqual(await checkHistory(primary.superuser, [report]), { missing: [], doubled: [], invented: [] });
  await assertNoLeaks(pair);
}, { timeoutMs: 420_000 });

scopedTest("a backlog is caught up although the secondary is killed again and again", async (scope) => {
  const pair = await makePair(scope, {
    load: async (sql) => void await sql`CREATE TABLE bulk (id int PRIMARY KEY, v text)`,
  });
  const { primary, secondary } = pair;
  const app = primary.app(pair.target);
  secondary.kill();
  for (let n = 0; n < 20; n++) {
    await app`INSERT INTO bulk SELECT g, md5(g::text) FROM generate_series(${n * 10_000 + 1}::int, ${
      (n + 1) * 10_000
    }::int) g`;
    await app`UPDATE bulk SET v = v || 'x' WHERE id % 10 = ${n % 10}`;
  }
  await app`DELETE FROM bulk WHERE id % 17 = 0`;
  for (let round = 0; round < 6; round++) {
    secondary.start();
    await secondary.waitState("standby");
    await pause(Math.random() * 400); // any moment of the catch-up
    round % 2 ? secondary.kill() : secondary.killAgent();
  }
  secondary.start();
  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser, 60_000);
  await assertNoLeaks(pair);
}, { timeoutMs: 240_000 });

scopedTest("a PostgreSQL that dies while its agent comes up is started with it", async (scope) => {
  const pair = await makePair(scope, {});
  const { primary } = pair;
  const log = () => readFileSync(primary.logFile, "utf8");
  const saysNext = async (word: string, from: number, what: string) =>
    await waitFor(() => log().slice(from).includes(word), { what, deadlineMs: 30_000, everyMs: 5 });
  for (let round = 0; round < 4; round++) {
    const beforeAgent = log().length;
    primary.killAgent();
    primary.start();
    await saysNext("adopted", beforeAgent, "the agent to find its PostgreSQL");
    await pause(round * 25); // any moment of coming up
    const beforeBlow = log().length;
    primary.killPostgres();
    // The status may be of the moment before the blow: alone it would let the next round begin without a PostgreSQL.
    await saysNext("PostgreSQL started", beforeBlow, "the agent to start its PostgreSQL");
    await primary.waitStatus("serving again", ({ node }) => node.state === "serving" && node.writable, 60_000);
  }
  assert.doesNotMatch(log(), /Cannot go on/);
  await waitSteady(pair);
  await assertNoLeaks(pair);
}, { timeoutMs: 240_000 });
