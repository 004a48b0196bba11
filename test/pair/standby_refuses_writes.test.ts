// A secondary in standby takes no write, whatever the session sets, and still answers reads.
import assert from "node:assert/strict";
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

const sessions: [name: string, sql: string][] = [
  ["as it comes", "SELECT 1"],
  ["with default_transaction_read_only off", "SET default_transaction_read_only = off"],
  ["with all settings reset", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"],
];

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
    for (const [session, setting] of sessions) {
      await one.unsafe(setting).simple();
      for (const [name, sql] of attempts) {
        const error = await one.unsafe(sql).simple().then(() => undefined, (error) => error);
        assert.ok(error, `${name}, session ${session}: must be refused`);
        assert.equal(error.code, "25006", `${name}, session ${session}: ${error.message}`);
      }
    }
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
  await primary.app(pair.target)`UPDATE vault.person SET locked = true`;
  await waitEqual(primary.superuser, secondary.superuser);
}, { timeoutMs: 120_000 });
