// The package postgres as scripts/patch_packages.ts mends it: when sessions are lost every query settles, gets its own
// answer, and reaches no session but its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import type { Sql } from "../../agent/postgres/connect.ts";
import { withServer } from "../helpers/servers.ts";

const terminate = (sql: Sql, share = 1) =>
  sql`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'application' AND random() < ${share}`;

/** What became of the query; the test fails if nothing did. */
async function settled<T>(query: PromiseLike<T>): Promise<{ value?: T; error?: Error }> {
  const bound = new AbortController();
  const outcome = Promise.resolve(query).then((value) => ({ value }), (error: Error) => ({ error }));
  const late = delay(10_000, "late" as const, { signal: bound.signal }).catch(() => "late" as const);
  const first = await Promise.race([outcome, late]);
  bound.abort();
  assert.notEqual(first, "late", "a query was never settled");
  return first as { value?: T; error?: Error };
}

test("every query settles, with its own answer, while sessions are terminated", { timeout: 60_000 }, async () => {
  await withServer(18, async (server) => {
    const sql = server.pool();
    let going = true;
    let number = 0;
    const count = { answers: 0, errors: 0 };
    const queries = (app: Sql): ((value: number) => PromiseLike<{ v: number }[]>)[] => [
      (value) => app<{ v: number }[]>`SELECT ${value}::int AS v`,
      (value) => app.unsafe<{ v: number }[]>(`SELECT ${value} AS v`),
      (value) => app.begin((tx) => tx<{ v: number }[]>`SELECT ${value}::int AS v`),
      async (value) => {
        const one = await app.reserve();
        try {
          return await one<{ v: number }[]>`SELECT ${value}::int AS v`;
        } finally {
          one.release();
        }
      },
    ];
    const pools = [1, 3].map((max) => server.client({ max }));
    const loops = pools.flatMap((app) =>
      [...queries(app), ...queries(app)].map(async (query) => {
        while (going) {
          const value = number++;
          const outcome = await settled(query(value));
          count[outcome.error ? "errors" : "answers"]++;
          if (outcome.value) assert.deepEqual([...outcome.value], [{ v: value }]);
        }
      })
    );
    const all = Promise.all(loops).finally(() => going = false);
    const until = Date.now() + 3000;
    while (going && Date.now() < until) {
      await terminate(sql, 0.5);
      const enough = count.answers + 5;
      while (going && count.answers < enough) await delay(1);
    }
    going = false;
    await all;
    assert.ok(count.errors > 20 && count.answers > 20, JSON.stringify(count));
    // Without a bound of its own: a lost session holds up nobody.
    await settled(Promise.all(pools.map((app) => app.end())));
  });
});

test("a transaction whose session was lost touches no other one", { timeout: 60_000 }, async () => {
  await withServer(18, async (server) => {
    const sql = server.pool();
    await sql`CREATE TABLE t (id int)`;
    const app = server.client({ max: 1 });
    const go = Promise.withResolvers<void>();
    const began = Promise.withResolvers<void>();
    let later: PromiseLike<unknown> | undefined;
    const first = settled(app.begin(async (tx) => {
      await tx`INSERT INTO t VALUES (1)`;
      // What waits in line behind it ends with its session.
      const inLine = [settled(tx`SELECT pg_sleep(60)`), settled(tx`SELECT 1`), settled(tx`SELECT 2`)];
      began.resolve();
      for (const { error } of await Promise.all(inLine)) assert.ok(error);
      await go.promise;
      later = settled(tx`INSERT INTO t VALUES (2)`);
      await later;
      throw new Error("rolls back, but not the other one");
    }));
    await began.promise;
    while (
      (await sql`SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'`).length < 1
    );
    await terminate(sql);
    assert.match(String((await first).error), /CONNECTION_CLOSED/);
    await app.begin(async (tx) => {
      await tx`INSERT INTO t VALUES (3)`;
      go.resolve();
      while (!later) await tx`SELECT 1`;
      await later;
      await tx`INSERT INTO t VALUES (4)`;
    });
    assert.deepEqual((await sql`SELECT id FROM t ORDER BY id`).map((row) => row.id), [3, 4]);
  });
});

test("a reserved connection is had also after one was refused", { timeout: 60_000 }, async () => {
  await withServer(18, async (server) => {
    const sql = server.client({ max: 1 });
    await server.stop();
    assert.ok((await settled(sql.reserve())).error);
    await server.start();
    const one = (await settled(sql.reserve())).value!;
    await settled(terminate(server.pool()));
    assert.ok((await settled(one`SELECT 1`)).error);
    one.release();
    // The pool may learn a moment later that the session is over, but then it opens another.
    while ((await settled(sql`SELECT 1`)).error);
    (await settled(sql.reserve())).value!.release();
  });
});

test(
  "the first query of a connection settles, also where there is another host to try",
  { timeout: 60_000 },
  async () => {
    await withServer(18, async (server) => {
      const sql = server.pool();
      await sql`CREATE ROLE app LOGIN PASSWORD 'app'`;
      for (const count of [1, 2]) {
        const hosts = Array(count).fill(`127.0.0.1:${server.cluster.port}`).join(",");
        const app = postgres(`postgres://app:app@${hosts}/postgres?target_session_attrs=read-write`, {
          max: 1,
          connection: { application_name: "application" },
        });
        const first = settled(app`SELECT pg_sleep(60)`);
        while (
          (await sql`SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'`).length < 1
        );
        await terminate(sql);
        assert.match(String((await first).error), /CONNECTION_CLOSED/, `of ${count} hosts`);
        assert.deepEqual([...(await settled(app`SELECT 1 AS v`)).value!], [{ v: 1 }]);
        await settled(app.end());
      }
    });
  },
);
