// A secondary in standby takes no write, whatever the session sets, and still answers reads.
import assert from "node:assert/strict";
import { copyIn } from "../../agent/apply/bulk.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { waitEqual } from "../helpers/equality.ts";
import { makePair } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { makeVault } from "../helpers/vault.ts";

const attempts: [name: string, sql: string][] = [
  ["insert", "INSERT INTO vault.folder (name) VALUES ('x')"],
  ["update", "UPDATE vault.person SET locked = true"],
  ["update of no row", "UPDATE vault.person SET locked = true WHERE id = -1"],
  ["delete", "DELETE FROM vault.share"],
  ["truncate", "TRUNCATE vault.audit"],
  [
    "merge",
    "MERGE INTO vault.person p USING (VALUES (1)) v (id) ON p.id = v.id WHEN MATCHED THEN UPDATE SET locked = true",
  ],
  ["write within a query", "WITH gone AS (DELETE FROM vault.share RETURNING 1) SELECT count(*) FROM gone"],
  ["write within a block", "DO $$ BEGIN UPDATE vault.person SET locked = true; END $$"],
  ["a partition by itself", "INSERT INTO events_2026 VALUES ('2026-05-05')"],
  ["a partitioned table", "INSERT INTO events VALUES ('2026-05-05')"],
  ["create table", "CREATE TABLE made_here (id int)"],
  ["alter table", "ALTER TABLE vault.person ADD COLUMN x int"],
  ["drop table", "DROP TABLE vault.share"],
];

const madeLater = `CREATE TABLE later (day date PRIMARY KEY);
  CREATE TABLE events_2027 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')`;

const sessions: [name: string, sql: string][] = [
  ["as it comes", "SELECT 1"],
  ["with default_transaction_read_only off", "SET default_transaction_read_only = off"],
  ["with all settings reset", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"],
];

/** Each write is refused, in whatever way the session has prepared itself. */
async function refusesAll(one: Sql, who: string): Promise<void> {
  for (const [session, setting] of sessions) {
    await one.unsafe(setting).simple();
    for (const [name, sql] of attempts) {
      const error = await one.unsafe(sql).simple().then(() => undefined, (error) => error);
      assert.ok(error, `${name} as ${who}, session ${session}: must be refused`);
      assert.equal(error.code, "25006", `${name} as ${who}, session ${session}: ${error.message}`);
    }
    const copied = copyIn(one, "COPY vault.folder (name) FROM STDIN (FORMAT binary)", new Map(), () => {});
    await assert.rejects(copied, { code: "25006" }, `COPY as ${who}, session ${session}`);
  }
}

/** No trigger sees it, so a session that makes itself read-write gets values; they are of the standby's own half. */
async function nextvalOf(one: Sql): Promise<void> {
  await one.unsafe("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").simple();
  await one.unsafe("RESET default_transaction_read_only").simple();
  await assert.rejects(one.unsafe(`SELECT nextval('vault.folder_id_seq')`).simple(), { code: "25006" });
  await one.unsafe("SET default_transaction_read_only = off").simple();
  const [{ value }] = await one<{ value: string }[]>`SELECT nextval('vault.folder_id_seq') AS value`;
  assert.equal(Number(value) % 2, 0);
}

scopedTest("a standby refuses every write with SQLSTATE 25006, and answers reads", async (scope) => {
  const pair = await makePair(scope, {
    load: async (sql) => {
      await makeVault(sql);
      await sql.unsafe(`
        CREATE TABLE events (day date) PARTITION BY RANGE (day);
        CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');`).simple();
    },
  });
  const { primary, secondary } = pair;
  const standby = secondary.app(pair.target);
  const one = await standby.reserve();
  try {
    await refusesAll(one, "application");
    await nextvalOf(one);
    await one.unsafe("BEGIN READ WRITE").simple();
    await assert.rejects(one.unsafe("INSERT INTO vault.folder (name) VALUES ('x')").simple(), /secondary.*standby/i);
    await one.unsafe("ROLLBACK").simple();
    const replica = await one.unsafe("SET session_replication_role = replica").simple().then(
      () => "allowed",
      () => "refused",
    );
    assert.equal(replica, "refused", "an application may not step around the guard's triggers");
    const [{ count }] = await one`SELECT count(*)::int AS count FROM vault.account`;
    assert.equal(count, 400);
    const [{ mode }] = await standby`SELECT current_setting('transaction_read_only') AS mode`;
    assert.equal(mode, "on", "what target_session_attrs looks at");
  } finally {
    one.release();
  }
  // The superuser is an ordinary writer too.
  await assert.rejects(secondary.superuser`UPDATE vault.person SET locked = true`, { code: "25006" });
  const root = await secondary.superuser.reserve();
  try {
    await refusesAll(root, "superuser");
    // A table and a partition made later, here by the way of the README.
    await root.unsafe(`SET default_transaction_read_only = off; SET session_replication_role = replica; SET ROLE app;
      ${madeLater}; RESET ROLE; RESET session_replication_role`).simple();
    for (const table of ["later", "events_2027", "events"]) {
      await assert.rejects(
        root.unsafe(`INSERT INTO ${table} VALUES ('2027-05-05')`).simple(),
        { code: "25006" },
        table,
      );
    }
  } finally {
    root.release();
  }
  const app = primary.app(pair.target);
  await app.unsafe(madeLater).simple();
  await app`INSERT INTO later VALUES ('2027-05-05')`;
  await app`INSERT INTO events VALUES ('2027-05-05')`;
  await app`UPDATE vault.person SET locked = true`;
  await waitEqual(primary.superuser, secondary.superuser);
}, { timeoutMs: 120_000 });
