// The guard on a real server: whatever a session tries, a closed database is not written, and after a fence nothing
// of the application commits any more.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { parseLsn } from "../../agent/change/lsn.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import type { Transaction } from "../../agent/postgres/locks.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { ensureTables } from "../../agent/postgres/objects.ts";
import { closeGuard, ensureNode, fence, guardIsOpen, openGuard } from "../../agent/role/guard.ts";
import { type TestServer, versions, withServer } from "../helpers/servers.ts";

const dbname = "postgres";

async function ready(sql: Sql): Promise<void> {
  await sql.unsafe(
    `CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE);
    CREATE VIEW v AS SELECT * FROM t; CREATE TABLE parted (id int) PARTITION BY RANGE (id);
    CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10); INSERT INTO t VALUES (1, 'one');
    CREATE FUNCTION add(int) RETURNS void SECURITY DEFINER LANGUAGE sql AS 'INSERT INTO t VALUES ($1)'`,
  );
  await migrate(sql);
  await ensureTables(sql);
}

function refused(what: PromiseLike<unknown>): Promise<void> {
  return assert.rejects(Promise.resolve(what), (error) => {
    assert.equal((error as { code?: string }).code, "25006", String(error));
    return true;
  });
}

const rows = async (sql: Sql) => (await sql`SELECT id FROM t ORDER BY id`).map((row) => row.id as number);

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "it did not come about in time");
    await delay(5);
  }
}

for (const version of versions) {
  test(
    `PostgreSQL ${version}: a closed database is not written, whatever the session sets`,
    { timeout: 60_000 },
    async () => {
      await withServer(version, async (server: TestServer) => {
        const sql = server.pool();
        await ready(sql);
        const settings = { default_transaction_read_only: "off" };
        await refused(server.client({ settings })`INSERT INTO t VALUES (2)`); // nobody has opened it yet
        await assert.rejects(openGuard(sql, { dbname, epoch: 1, state: "serving" }), /no role is written/);
        await ensureNode(sql, { node: "b", role: "secondary" });
        assert.equal(await guardIsOpen(sql), false);
        await openGuard(sql, { dbname, epoch: 1, state: "serving" });
        assert.equal(await guardIsOpen(sql), true);
        const app = server.client({ max: 1 });
        await app`INSERT INTO t VALUES (2)`;
        await app`INSERT INTO parted VALUES (1)`;
        const [before] = await app`SELECT pg_backend_pid() AS pid`;
        await app.unsafe(
          `CREATE TABLE later (id int); CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20)`,
        );

        await closeGuard(sql, { dbname, epoch: 2, state: "standby" });
        assert.equal(await guardIsOpen(sql), false);
        const [ended] = await sql`SELECT FROM pg_stat_activity WHERE pid = ${before.pid}`;
        assert.equal(ended, undefined, "the session was ended");
        const [read] = await server.client()`SELECT current_setting('transaction_read_only') AS ro`;
        assert.equal(read.ro, "on");
        const dodger = server.client({ max: 1, settings });
        await assert.rejects(
          async () => await dodger`INSERT INTO t VALUES (3)`,
          /Cannot write here: this server is secondary in state standby/,
        );
        for (
          const statement of [
            "SET transaction_read_only = off; INSERT INTO t VALUES (3)",
            "COPY t (id) FROM PROGRAM 'echo 77'",
            "UPDATE t SET v = 'x'",
            "DELETE FROM t",
            "TRUNCATE t CASCADE",
            "INSERT INTO v VALUES (3)",
            "INSERT INTO parted VALUES (2)",
            "INSERT INTO parted_1 VALUES (2)",
            "INSERT INTO parted_2 VALUES (12)",
            "INSERT INTO later VALUES (1)",
            "SELECT add(3)",
            "DO 'BEGIN INSERT INTO t VALUES (3); END'",
            "WITH w AS (INSERT INTO t VALUES (3) RETURNING 1) SELECT 1",
            "CREATE TABLE more (id int)",
            "ALTER TABLE t DISABLE TRIGGER ALL",
            "DROP TABLE t CASCADE",
            "SELECT 1 AS x INTO more",
          ]
        ) {
          await refused(dodger.unsafe(statement).simple());
        }
        assert.deepEqual(await rows(dodger), [1, 2]);
        const applier = server.pool({ settings: { session_replication_role: "replica" } });
        await applier`INSERT INTO t VALUES (10)`;
        await applier`CREATE TABLE by_agent (id int)`;
        await refused(dodger`INSERT INTO by_agent VALUES (1)`);
        assert.deepEqual(await rows(dodger), [1, 2, 10]);
      });
    },
  );

  test(`PostgreSQL ${version}: a new postmaster is closed until it is opened`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await ready(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname, epoch: 1, state: "serving" });
      await server.stop();
      await server.start();
      const fresh = server.pool();
      assert.equal(await guardIsOpen(fresh), false);
      const app = server.client();
      await refused(app`INSERT INTO t VALUES (2)`);
      await openGuard(fresh, { dbname, epoch: 1, state: "serving" });
      await server.client()`INSERT INTO t VALUES (2)`;
    });
  });

  test(
    `PostgreSQL ${version}: the guard's short way says what ha.state says, to whoever writes`,
    { timeout: 60_000 },
    async () => {
      await withServer(version, async (server) => {
        const sql = server.pool({ max: 1 });
        await ready(sql);
        await ensureNode(sql, { node: "a", role: "primary" });
        // What he owns comes before pg_catalog, says yes to everything, and must not be asked.
        await sql.unsafe(
          `SET session_replication_role = replica; CREATE ROLE sly LOGIN; CREATE SCHEMA sly AUTHORIZATION sly; GRANT ALL ON t TO sly;
          ALTER ROLE sly SET search_path = sly, pg_catalog, public; ALTER ROLE sly SET datestyle = 'SQL, DMY';
          ALTER ROLE sly SET timezone = 'Asia/Kolkata'; ALTER ROLE sly SET default_transaction_read_only = off;
          CREATE FUNCTION sly.always(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT true';
          CREATE OPERATOR sly.= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = sly.always);
          CREATE FUNCTION sly.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()';
          CREATE FUNCTION sly.refuse_if_closed() RETURNS void LANGUAGE sql AS 'SELECT';
          RESET session_replication_role`,
        ).simple();
        const hasShortWay = async () =>
          (await sql`SELECT prosrc LIKE '%IF %' AS has FROM pg_proc WHERE oid = 'ha.guard_write'::regproc`)[0].has;
        let id = 100;
        const write = () => server.client({ user: "sly", max: 1 })`INSERT INTO t VALUES (${id++})`;
        const isClosed = async () => {
          assert.equal(await hasShortWay(), false);
          await refused(write());
        };
        await isClosed();
        await openGuard(sql, { dbname, epoch: 1, state: "serving" });
        assert.equal(await hasShortWay(), true);
        await write();
        // By the short way alone: it is not ha.state that lets him pass.
        await sql`REVOKE EXECUTE ON FUNCTION ha.refuse_if_closed() FROM PUBLIC`;
        await write();
        await sql`GRANT EXECUTE ON FUNCTION ha.refuse_if_closed() TO PUBLIC`;

        // Whoever closes, in whatever way, and only if it is committed.
        for (
          const closing of [
            "UPDATE ha.state SET writable = false",
            "UPDATE ha.state SET opened_at = now()",
            "DELETE FROM ha.state",
            "TRUNCATE ha.state",
          ]
        ) {
          await sql.unsafe(`SET session_replication_role = replica; BEGIN; ${closing}; ROLLBACK`).simple();
          assert.equal(await hasShortWay(), true);
          await write();
          await sql.unsafe(`${closing}; RESET session_replication_role`).simple();
          await isClosed();
          await ensureNode(sql, { node: "a", role: "primary" });
          await openGuard(sql, { dbname, epoch: 1, state: "serving" });
          await write();
        }
        await ensureNode(sql, { node: "a", role: "secondary" });
        await isClosed();

        // What is open for another postmaster is not open here, whatever the function says.
        await openGuard(sql, { dbname, epoch: 1, state: "serving" });
        await server.stop();
        await server.start();
        await refused(write());
      });
    },
  );

  test(`PostgreSQL ${version}: a fence waits for a writer that commits in time`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await ready(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname, epoch: 1, state: "serving" });
      const app = server.client({ max: 1 });
      const writer = await app.reserve();
      await writer`BEGIN`;
      await writer`INSERT INTO t VALUES (2)`;
      const began = Date.now();
      const fenced = fence(sql, { dbname, timeoutMs: 20_000, epoch: 2, state: "draining" });
      while (await guardIsOpen(sql)) assert.ok(Date.now() - began < 10_000);
      await writer`COMMIT`;
      await fenced;
      assert.ok(Date.now() - began < 10_000);
      assert.deepEqual(await rows(sql), [1, 2]);
      const [status] = await sql`SELECT state, epoch, writable FROM ha.status`;
      assert.deepEqual({ ...status }, { state: "draining", epoch: "2", writable: false });
    });
  });

  test(`PostgreSQL ${version}: a fence is not done before prepared transactions are`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await ready(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname, epoch: 1, state: "serving" });
      const writer = await server.client({ max: 1 }).reserve();
      await writer.unsafe("BEGIN; INSERT INTO t VALUES (2)").simple();
      const fencing = fence(sql, { dbname, timeoutMs: 20_000 });
      const outcome = fencing.then(() => "fenced", (error) => String(error));
      const began = Date.now();
      while (await guardIsOpen(sql)) assert.ok(Date.now() - began < 10_000);
      await writer.unsafe("PREPARE TRANSACTION 'late'").simple();
      assert.match(await outcome, /Cannot fence postgres: 1 prepared transactions are open/);
      // Whoever prepared it may end it, closed or not.
      await server.client()`COMMIT PREPARED 'late'`;
      const [{ lsn }] = await sql`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
      assert.ok(await fence(sql, { dbname, timeoutMs: 1000 }) >= parseLsn(lsn));
      assert.deepEqual(await rows(sql), [1, 2]);
    }, { settings: { max_prepared_transactions: "5" } });
  });

  test(`PostgreSQL ${version}: nextval is refused, but to a session that makes itself read-write`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await sql`CREATE SEQUENCE s`;
      await ready(sql);
      await ensureNode(sql, { node: "b", role: "secondary" });
      await closeGuard(sql, { dbname, epoch: 1, state: "standby" });
      const app = server.client({ max: 1 });
      await refused(app`SELECT nextval('s')`);
      await refused(app`SELECT setval('s', 100)`);
      // No trigger sees it. Nothing can be stored with the value here, and nobody else is given it.
      await app`SET default_transaction_read_only = off`;
      await app`SELECT nextval('s')`;
      await refused(app`INSERT INTO t SELECT nextval('s')`);
    });
  });

  test(`PostgreSQL ${version}: a fence ends late writers and old snapshots; nothing commits after its LSN`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await ready(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname, epoch: 1, state: "serving" });
      const settings = { default_transaction_read_only: "off" };
      const end = Promise.withResolvers<void>();
      // Holds a transaction open until the end; porsager rejects begin() when the connection is lost.
      const hold = async (options: string, query: (tx: Transaction) => PromiseLike<unknown>) => {
        const holds = Promise.withResolvers<void>();
        const outcome = server.client({ max: 1, settings }).begin(options, async (tx) => {
          await query(tx);
          holds.resolve();
          await end.promise;
        }).then(() => "committed", () => "ended");
        await Promise.race([holds.promise, outcome]);
        return { outcome };
      };
      const late = await hold("", (tx) => tx`INSERT INTO t VALUES (2)`);
      // Its snapshot shows an open guard for as long as the transaction lasts, and it has no transaction id yet.
      const old = await hold("ISOLATION LEVEL REPEATABLE READ", (tx) => tx`SELECT count(*) FROM t`);
      const busy = server.client({ max: 3, settings });
      let going = true;
      let id = 100;
      let refusals = 0;
      // Lost sessions are no refusals: only the guard's own word counts.
      const writers = [1, 2, 3].map(async () => {
        while (going) {
          await busy`INSERT INTO t VALUES (${id++})`.catch((error) => {
            if (error.code === "25006") refusals++;
          });
        }
      });
      try {
        const began = Date.now();
        const lsn = await fence(sql, { dbname, timeoutMs: 300 });
        assert.ok(Date.now() - began >= 300);
        const kept = await rows(sql);
        const [flushed] = await sql<{ lsn: string }[]>`SELECT pg_current_wal_flush_lsn()::text AS lsn`;
        assert.ok(parseLsn(flushed.lsn) + 100_000n > lsn, "the log is flushed");
        assert.deepEqual(await Promise.all([late.outcome, old.outcome]), ["ended", "ended"]);
        const before = refusals;
        await until(() => refusals >= before + 20);
        assert.deepEqual(await rows(sql), kept);
        assert.ok(!kept.includes(2));
      } finally {
        going = false;
        end.resolve();
        await Promise.all(writers);
      }
    });
  });
}
