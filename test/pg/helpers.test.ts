// The tests' own helpers on a real server: a comparison that sees nothing, or a load that counts wrong, proves nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { assertEqual, differences } from "../helpers/equality.ts";
import { runStatements } from "../helpers/every_statement.ts";
import { everyExtension, makeEveryType } from "../helpers/every_type.ts";
import { versions, withServer } from "../helpers/servers.ts";
import { checkHistory, makeTpcb, startTpcb, tpcbSums } from "../helpers/tpcb.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";
import { waitFor } from "../helpers/wait.ts";

for (const version of versions) {
  test(`every statement over every type runs on PostgreSQL ${version}`, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await sql.unsafe(everyExtension).simple();
      await makeEveryType(sql);
      await runStatements(sql);
      await assertEqual(sql, sql);
    });
  });
}

test("differences between two databases are found and shown", async () => {
  await withServer(versions[0], async (server) => {
    const root = server.pool();
    await root`CREATE DATABASE a`;
    await root`CREATE DATABASE b`;
    const [a, b] = [server.pool({ database: "a" }), server.pool({ database: "b" })];
    await Promise.all([a, b].map(makeVault));
    await Promise.all(
      [a, b].map((sql) => sql`TRUNCATE vault.audit, vault.password, vault.password_history, vault.account CASCADE`),
    );
    await assertEqual(a, b);
    await a`UPDATE vault.person SET mail = 'else@example.com' WHERE id = 7`;
    await a`CREATE TABLE extra (id int)`;
    const found = (await differences(a, b)).join("\n");
    assert.match(found, /public\.extra is on the primary only/);
    assert.match(found, /vault\.person: 60 rows on the primary, 60 on the secondary/);
    assert.match(found, /only on the primary \(1\):\n.*else@example\.com/);
  });
});

test("a duplicate row is a difference", async () => {
  await withServer(versions[0], async (server) => {
    const root = server.pool();
    await root`CREATE DATABASE b`;
    const b = server.pool({ database: "b" });
    await Promise.all(
      [root, b].map((sql) => sql.unsafe("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1)").simple()),
    );
    await assertEqual(root, b);
    await b`INSERT INTO t VALUES (1), (1)`;
    assert.equal((await differences(root, b)).length, 1);
  });
});

test("the load knows what was acknowledged, and follows its server through a restart and a read-only spell", async () => {
  await withServer(versions[0], async (server) => {
    const sql = server.pool();
    await makeTpcb(sql, { branches: 2 });
    const { host, port } = { host: server.cluster.socketDir, port: server.cluster.port };
    await sql`CREATE ROLE app LOGIN SUPERUSER PASSWORD 'app'`;
    const here = { host: "127.0.0.1", port };
    const nowhere = { host: "127.0.0.1", port: 1 };
    assert.ok(host);
    const load = startTpcb({ hosts: [nowhere, here], database: "postgres", user: "app", password: "app" }, {
      branches: 2,
    });
    await waitFor(() => load.acknowledged > 100, { what: "100 transactions", deadlineMs: 10_000 });
    await server.stop();
    await server.start();
    const before = load.acknowledged;
    await waitFor(() => load.acknowledged > before + 100, { what: "100 more", deadlineMs: 10_000 });
    await sql`ALTER DATABASE postgres SET default_transaction_read_only = on`;
    await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tpcb%'`;
    const during = load.acknowledged;
    await waitFor(
      async () =>
        (await sql`SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'tpcb%' AND state = 'active'`).length ===
          0,
      { what: "no client to write", deadlineMs: 5000 },
    );
    await sql`ALTER DATABASE postgres SET default_transaction_read_only = off`;
    await waitFor(() => load.acknowledged > during + 50, { what: "writes to go on", deadlineMs: 10_000 });
    const report = await load.stop();
    assert.deepEqual(report.errors, []);
    assert.ok(report.reconnections > 0);
    assert.deepEqual(await checkHistory(sql, [report]), { missing: [], doubled: [], invented: [] });
    const sums = await tpcbSums(sql);
    assert.deepEqual(new Set(Object.values(sums)).size, 1, JSON.stringify(sums));
    console.log(
      `${report.tps.toFixed(0)} tps, ${report.acknowledged.length} acknowledged, ${report.reconnections} reconnections`,
    );
  });
});

test("an application's password change on the vault example", async () => {
  await withServer(versions[0], async (server) => {
    const sql = server.pool();
    await makeVault(sql);
    assert.equal(await changePassword(sql, 5, 1), 2);
    assert.equal(await changePassword(sql, 5, 1), 3);
    const [{ count }] =
      await sql`SELECT count(*)::int AS count FROM vault.audit WHERE action = 'change' AND account_id = 5 AND id > 800`;
    assert.equal(count, 2);
  });
});
