// The application writes at the primary while a batch of the merge is open there: what the applier has looked at already
// changes behind its back. Both sides must be equal all the same.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { openClient } from "../helpers/follower.ts";
import { Ledger } from "../helpers/ledger.ts";
import { makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

/** What S and P do in the split, what P does when the batch is open, and the rows that must be there in the end. */
interface Case {
  readonly table: string;
  readonly primary?: string;
  readonly secondary: string;
  readonly meanwhile: string;
  readonly rows: readonly string[];
}

const cases: readonly Case[] = [
  {
    table: "came_and_went_there",
    secondary: "INSERT INTO came_and_went_there VALUES (5, 's'); DELETE FROM came_and_went_there WHERE id = 5",
    meanwhile: "INSERT INTO came_and_went_there VALUES (5, 'p')",
    rows: ["(1,old)", "(2,old)", "(5,p)"],
  },
  {
    table: "deleted_on_both",
    primary: "DELETE FROM deleted_on_both WHERE id = 1",
    secondary: "DELETE FROM deleted_on_both WHERE id = 1",
    meanwhile: "INSERT INTO deleted_on_both VALUES (1, 'p')",
    rows: ["(1,p)", "(2,old)"],
  },
  {
    table: "moved_away_on_both",
    primary: "UPDATE moved_away_on_both SET id = 7 WHERE id = 1",
    secondary: "UPDATE moved_away_on_both SET id = 8 WHERE id = 1",
    meanwhile: "INSERT INTO moved_away_on_both VALUES (1, 'p')",
    rows: ["(1,p)", "(2,old)", "(7,old)", "(8,old)"],
  },
  {
    table: "moved_into_the_gap",
    primary: "DELETE FROM moved_into_the_gap WHERE id = 1",
    secondary: "DELETE FROM moved_into_the_gap WHERE id = 1",
    meanwhile: "UPDATE moved_into_the_gap SET id = 1, v = 'p' WHERE id = 2",
    rows: ["(1,p)"],
  },
  {
    table: "emptied_there",
    secondary: "TRUNCATE emptied_there",
    meanwhile: "INSERT INTO emptied_there VALUES (5, 'p')",
    rows: ["(5,p)"],
  },
];

scopedTest("rows that the primary's application writes while a batch is open there", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql) => {
      for (const { table } of cases) {
        await sql.unsafe(`CREATE TABLE ${table} (id int PRIMARY KEY, v text);
          INSERT INTO ${table} VALUES (1, 'old'), (2, 'old')`).simple();
      }
      await sql`CREATE TABLE zz_last (id int PRIMARY KEY, v text)`;
      await sql`INSERT INTO zz_last VALUES (1, 'old')`;
    },
  });
  const { primary, secondary, link } = pair;
  const b = secondary.app(pair.target);
  const a = openClient(pair.target, { max: cases.length + 1, host: { host: primary.host, port: primary.pgPort } });
  scope.defer("the application's connections", () => a.end({ timeout: 1 }));
  link.cut();
  await secondary.waitServing();
  for (const each of cases) {
    if (each.primary) await a.unsafe(each.primary);
    await b.unsafe(each.secondary).simple();
  }
  // The last change of the batch meets a row that the application holds: the batch stays open.
  await b`UPDATE zz_last SET v = 's' WHERE id = 1`;
  const holder = await a.reserve();
  await holder.unsafe("BEGIN; SELECT FROM zz_last FOR UPDATE").simple();
  link.heal();
  await waitFor(
    async () =>
      (await primary.superuser`SELECT FROM pg_stat_activity
        WHERE application_name = 'hapair apply' AND wait_event_type = 'Lock'`).length > 0,
    { what: "the batch to wait for the row that is held", deadlineMs: 20_000, everyMs: 10 },
  );
  let done = 0;
  const meanwhile = cases.map(({ meanwhile }) => a.unsafe(meanwhile).then(() => done++));
  await waitFor(
    async () => {
      const waiting = await primary.superuser`SELECT FROM pg_stat_activity
        WHERE application_name = 'application' AND wait_event_type = 'Lock'`;
      return done + waiting.length === cases.length;
    },
    { what: "the application to have written, or to wait for the batch", deadlineMs: 10_000, everyMs: 10 },
  );
  console.log(`${done} of ${cases.length} written while the batch was open`);
  await holder.unsafe("COMMIT");
  holder.release();
  await Promise.all(meanwhile);

  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser);
  for (const { table, rows } of cases) {
    const found = await primary.superuser.unsafe<{ row: string }[]>(
      `SELECT t::text AS row FROM ${table} t ORDER BY id`,
    );
    assert.deepEqual(found.map(({ row }) => row), rows, table);
  }
}, { timeoutMs: 180_000 });

scopedTest("rows that the primary's application inserts while tables are emptied there", async (scope) => {
  const tables = Array.from({ length: 20 }, (_, n) => `emptied_${n}`);
  const pair = await makePair(scope, {
    link: true,
    load: async (sql) => {
      for (const table of tables) {
        await sql.unsafe(`CREATE TABLE ${table} (id int PRIMARY KEY, v text);
          INSERT INTO ${table} SELECT n, 'old' FROM generate_series(1, 100) n`).simple();
      }
    },
  });
  const { primary, secondary, link } = pair;
  const [a, b] = [primary.app(pair.target), secondary.app(pair.target)];
  link.cut();
  await secondary.waitServing();
  for (let turn = 0; turn < 2; turn++) for (const table of tables) await b.unsafe(`TRUNCATE ${table}`);

  const ledger = new Ledger();
  link.heal();
  await waitFor(
    async () =>
      (await primary.superuser`SELECT FROM pg_stat_activity
        WHERE application_name = 'hapair apply' AND backend_xid IS NOT NULL`).length > 0,
    { what: "a batch to be open", deadlineMs: 20_000, everyMs: 2 },
  );
  await Promise.all([1, 2, 3].map(async (writer) => {
    for (let turn = 1; turn <= 1000; turn++) {
      const [table, id] = [tables[turn % tables.length], writer * 1_000_000 + turn];
      await a.unsafe(`INSERT INTO ${table} VALUES (${id}, 'p${id}')`);
      ledger.wrote("primary", `public.${table}`, String(id), `p${id}`);
    }
  }));
  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await ledger.lost(primary.superuser), []);
  const [{ count }] = await primary.superuser`SELECT count(*)::int AS count FROM emptied_0 WHERE v = 'old'`;
  assert.equal(count, 0, "what the secondary had seen is gone");
}, { timeoutMs: 180_000 });
