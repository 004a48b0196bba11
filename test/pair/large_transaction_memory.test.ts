// One transaction of any size passes in bounded memory, on both agents.
import assert from "node:assert/strict";
import process from "node:process";
import { waitEqual } from "../helpers/equality.ts";
import { makePair } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

const rows = Number(process.env.LARGE_ROWS ?? 1_000_000);
const limitMb = 256;

scopedTest(`one transaction of ${rows} rows, each agent within ${limitMb} MB`, async (scope) => {
  const pair = await makePair(scope, {
    load: async (sql) => void await sql`CREATE TABLE bulk (id bigint PRIMARY KEY, a int, b text, c timestamptz)`,
  });
  const { primary, secondary } = pair;
  const app = primary.app(pair.target);
  let start = performance.now();
  await app`INSERT INTO bulk SELECT g, g % 1000, md5(g::text), now() FROM generate_series(1, ${rows}::int) g`;
  const arrived = (what: string, sql: string) =>
    waitFor(async () => (await secondary.superuser.unsafe(sql)).length > 0, {
      what,
      deadlineMs: 180_000,
      everyMs: 200,
    });
  await arrived("the last row", `SELECT FROM bulk WHERE id = ${rows}`);
  console.log(`${rows} inserts there after ${((performance.now() - start) / 1000).toFixed(1)} s`);
  start = performance.now();
  await app.begin(async (tx) => {
    await tx`UPDATE bulk SET a = a + 1 WHERE id % 4 = 0`;
    await tx`DELETE FROM bulk WHERE id % 4 = 1`;
  });
  await arrived("the changed rows", "SELECT FROM bulk WHERE id = 4 AND a = 5");
  console.log(`half of them changed or deleted: there after ${((performance.now() - start) / 1000).toFixed(1)} s`);
  await waitEqual(primary.superuser, secondary.superuser, 60_000);
  for (const node of [primary, secondary]) {
    console.log(`${node.role}'s agent: peak ${node.peakMemoryMb().toFixed(0)} MB`);
    assert.ok(node.peakMemoryMb() < limitMb, `the ${node.role}'s agent used ${node.peakMemoryMb().toFixed(0)} MB`);
  }
}, { timeoutMs: 480_000 });
