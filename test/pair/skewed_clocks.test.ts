// The nodes' clocks are two minutes apart, in either direction: an edit made after seeing the other side's is never a
// conflict; between truly concurrent edits the clocks decide, and both versions are in the log.
// A session with a replication origin of its own says itself when its transactions commit: that is the skewed clock.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";

/** Runs statements, each in a transaction, on a node whose clock goes wrong by so many minutes. */
async function withClock(node: PairNode, minutes: number, statements: string[]): Promise<void> {
  const one = await node.superuser.reserve();
  try {
    await one`SELECT pg_replication_origin_create('test_clock')
      WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = 'test_clock')`;
    await one`SELECT pg_replication_origin_session_setup('test_clock')`;
    for (const statement of statements) {
      await one.unsafe(
        `BEGIN; SELECT pg_replication_origin_xact_setup('0/1', clock_timestamp() + interval '${minutes} minutes');
         ${statement}; COMMIT`,
      ).simple();
    }
    await one`SELECT pg_replication_origin_session_reset()`;
  } finally {
    one.release();
  }
}

/** Table `ahead`: the secondary's clock is two minutes ahead of the primary's; `behind`: the other way round. */
const tables = [["ahead", 2], ["behind", -2]] as const;

async function inSplit({ link, secondary }: Pair, write: () => Promise<void>): Promise<void> {
  link.cut();
  await secondary.waitServing();
  await write();
  link.heal();
}

async function assertMerged(pair: Pair, conflicts: number, what: string): Promise<void> {
  await waitSteady(pair);
  await waitEqual(pair.primary.superuser, pair.secondary.superuser);
  const log = await pair.primary.superuser`
    SELECT kind, table_name, row_key, why, primary_commit_at, secondary_commit_at FROM ha.conflict ORDER BY id`;
  assert.equal(log.length, conflicts, `${what}: ${JSON.stringify(log)}`);
}

async function valuesOf({ primary }: Pair, table: string): Promise<Record<string, string>> {
  const rows = await primary.superuser.unsafe(`SELECT id, v FROM ${table} WHERE v <> 'old' ORDER BY id`);
  return Object.fromEntries(rows.map(({ id, v }) => [id, v]));
}

scopedTest("clocks two minutes apart: what saw the other side's edit is no conflict", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql) => {
      for (const [table] of tables) {
        await sql.unsafe(`CREATE TABLE ${table} (id int PRIMARY KEY, v text)`);
        await sql.unsafe(`INSERT INTO ${table} SELECT n, 'old' FROM generate_series(1, 10) n`);
      }
    },
  });
  const { primary, secondary } = pair;
  const app = primary.app(pair.target);
  for (const [table] of tables) await app.unsafe(`UPDATE ${table} SET v = 'p0' WHERE id <= 3`);
  await waitEqual(primary.superuser, secondary.superuser);

  await inSplit(pair, async () => {
    for (const [table, minutes] of tables) {
      await withClock(secondary, minutes, [
        `UPDATE ${table} SET v = 's1' WHERE id = 1`,
        `DELETE FROM ${table} WHERE id = 2`,
        `UPDATE ${table} SET v = 's1' WHERE id = 3`,
        `INSERT INTO ${table} VALUES (20, 's1')`,
      ]);
      const [{ minutes: seen }] = await secondary.superuser.unsafe(
        `SELECT round(extract(epoch FROM pg_xact_commit_timestamp(xmin) - now()) / 60)::int AS minutes
         FROM ${table} WHERE id = 1`,
      );
      assert.equal(seen, minutes, "the transaction's commit time is that of the skewed clock");
      await app.unsafe(`UPDATE ${table} SET v = 'p1' WHERE id = 9`);
    }
  });
  await assertMerged(pair, 0, "the secondary had seen what the primary wrote");
  for (const [table] of tables) assert.deepEqual(await valuesOf(pair, table), { 1: "s1", 3: "s1", 9: "p1", 20: "s1" });

  // The primary writes upon what it has seen of the secondary, with a clock that says it was before.
  await inSplit(pair, async () => {
    for (const [table, minutes] of tables) {
      await withClock(primary, minutes - 3, [
        `UPDATE ${table} SET v = 'p2' WHERE id = 1`,
        `INSERT INTO ${table} VALUES (2, 'p2')`,
        `DELETE FROM ${table} WHERE id = 20`,
      ]);
      await withClock(secondary, minutes, [`UPDATE ${table} SET v = 's2' WHERE id = 8`]);
    }
  });
  await assertMerged(pair, 0, "the primary had seen what the secondary wrote");
  for (const [table] of tables) {
    assert.deepEqual(await valuesOf(pair, table), { 1: "p2", 2: "p2", 3: "s1", 8: "s2", 9: "p1" });
  }

  // Truly concurrent: only now do clocks count, whoever wrote last by ours.
  await inSplit(pair, async () => {
    await withClock(secondary, 2, ["UPDATE ahead SET v = 's3' WHERE id = 5"]);
    await app`UPDATE ahead SET v = 'p3' WHERE id = 5`;
    await app`UPDATE behind SET v = 'p3' WHERE id = 5`;
    await withClock(secondary, -2, ["UPDATE behind SET v = 's3' WHERE id = 5"]);
  });
  await assertMerged(pair, 2, "one conflict in each table");
  assert.equal((await valuesOf(pair, "ahead"))[5], "s3");
  assert.equal((await valuesOf(pair, "behind"))[5], "p3");
  const log = await primary.superuser`
    SELECT round(extract(epoch FROM secondary_commit_at - primary_commit_at) / 60)::int AS minutes FROM ha.conflict
    ORDER BY table_name`;
  assert.deepEqual(log.map(({ minutes }) => minutes), [2, -2], "both commit times are in the log");

  // Whoever writes upon the outcome of a conflict has seen it.
  await inSplit(pair, async () => {
    for (const [table, minutes] of tables) {
      await withClock(secondary, -minutes, [`UPDATE ${table} SET v = 's4' WHERE id IN (1, 5)`]);
    }
  });
  await assertMerged(pair, 2, "the secondary had seen the verdict");
  for (const [table] of tables) {
    await app.unsafe(`UPDATE ${table} SET v = 'p5' WHERE id = 5`);
    await app.unsafe(`DELETE FROM ${table} WHERE id = 1`);
  }
  await assertMerged(pair, 2, "the primary had seen what the secondary wrote upon it");
  for (const [table] of tables) {
    assert.deepEqual(await valuesOf(pair, table), { 2: "p2", 3: "s1", 5: "p5", 8: "s2", 9: "p1" });
  }
}, { timeoutMs: 240_000 });
