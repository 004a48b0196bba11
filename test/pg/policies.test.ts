// What the database enforces of policies: append_only by a trigger, the replica identity of merge_columns; given, kept
// and taken away again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, parseConfig } from "../../agent/config.ts";
import { errorCode, type Sql } from "../../agent/postgres/connect.ts";
import { UsageError } from "../../agent/errors.ts";
import { Tables } from "../../agent/node/tables.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { ensurePolicies, ensureTables } from "../../agent/postgres/objects.ts";
import { readTables, tablesStamp } from "../../agent/postgres/tables.ts";
import { closeGuard, ensureNode, openGuard } from "../../agent/role/guard.ts";
import { rowsPolicies } from "../../agent/table_policies.ts";
import { versions, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

const config = (more: string): Config =>
  parseConfig(
    `[node]\nname = "a"\nrole = "primary"\n[peer]\nname = "b"\naddress = "b:1"\n[postgres]\npgdata = "/d"\n${more}`,
    "agent.toml",
  );

/** Makes the database what the config asks for; the tables that were changed. */
async function enforce(sql: Sql, more: string): Promise<string[]> {
  await ensurePolicies(sql, rowsPolicies(config(more), await readTables(sql)));
  return await ensureTables(sql);
}

/** By table: replica identity, and `+` where rows are only ever added. */
async function stateOf(sql: Sql): Promise<Record<string, string>> {
  const rows = await sql`SELECT table_name, identity::text || CASE append_only WHEN 'O' THEN '+' ELSE '' END AS is
    FROM ha.user_table ORDER BY 1`;
  return Object.fromEntries(rows.map((row) => [row.table_name, row.is]));
}

async function assertRefused(statement: Promise<unknown>, what: string): Promise<void> {
  await assert.rejects(statement, (error: Error & { hint?: string }) => {
    assert.equal(errorCode(error), "HA002", `${what}: ${error.message}`);
    assert.match(error.message, /^Cannot change public\.[a-z_0-9]+: its rows are only ever added$/, what);
    assert.match(error.hint ?? "", /agent\.toml/, what);
    return true;
  });
}

for (const version of versions) {
  test(`PostgreSQL ${version}: rows of an append_only table are only ever added`, { timeout: 60_000 }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql.unsafe(`
        CREATE TABLE person (id int PRIMARY KEY);
        CREATE TABLE audit (id int PRIMARY KEY, person int REFERENCES person ON DELETE CASCADE, what text);
        CREATE TABLE audit_parts (id int PRIMARY KEY, what text) PARTITION BY RANGE (id);
        CREATE TABLE part_1 PARTITION OF audit_parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE other (id int PRIMARY KEY)`);
      await migrate(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      const changed = await enforce(sql, '[[table]]\nmatch = "*.audit*"\npolicy = "append_only"\n');
      assert.deepEqual(changed.length, 5, "the guard's triggers come with it");
      assert.deepEqual(await enforce(sql, '[[table]]\nmatch = "*.audit*"\npolicy = "append_only"\n'), []);
      await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
      const app = client();
      await app`INSERT INTO person VALUES (1), (2)`;
      await app`INSERT INTO audit VALUES (1, 1, 'a'), (2, NULL, 'b')`;
      await app`INSERT INTO audit VALUES (1, 1, 'a') ON CONFLICT DO NOTHING`;
      await app`INSERT INTO audit_parts VALUES (1, 'a')`;
      const refused = [
        "UPDATE audit SET what = 'x'",
        "DELETE FROM audit WHERE id = 2",
        "TRUNCATE audit",
        "INSERT INTO audit VALUES (1, 1, 'x') ON CONFLICT (id) DO UPDATE SET what = 'x'",
        "MERGE INTO audit a USING person p ON p.id = a.id WHEN MATCHED THEN UPDATE SET what = 'x'",
        "DELETE FROM person WHERE id = 1", // its audit rows would go with it
        "TRUNCATE person CASCADE",
        "UPDATE audit_parts SET what = 'x'",
        "DELETE FROM part_1",
        "TRUNCATE audit_parts",
      ];
      for (const statement of refused) await assertRefused(app.unsafe(statement), statement);
      await app`CREATE ROLE dev LOGIN`;
      await app`GRANT ALL ON ALL TABLES IN SCHEMA public TO dev`;
      const dev = client({ user: "dev" });
      await assertRefused(dev`UPDATE audit SET what = 'x'`, "another role");
      await dev`INSERT INTO audit VALUES (3, NULL, 'c')`;
      await app`UPDATE other SET id = id`;
      assert.equal((await app`SELECT FROM audit`).length, 3);

      const applier = pool({ settings: { session_replication_role: "replica" } });
      await applier`UPDATE audit SET what = 'merged' WHERE id = 2`;
      await applier`DELETE FROM audit WHERE id = 3`;

      await assert.rejects(app`DROP TRIGGER ha_append_only ON audit`, /Cannot drop trigger ha_append_only on .*audit/);
      await app`ALTER TABLE audit DISABLE TRIGGER ALL`;
      await assertRefused(app`DELETE FROM audit`, "after its triggers were disabled");
      await app`ALTER TABLE audit ENABLE ALWAYS TRIGGER ha_append_only`;
      await applier`UPDATE audit SET what = 'merged' WHERE id = 2`;

      // A partition made later is like its root at once; another table when the agent has looked.
      await app`CREATE TABLE part_2 PARTITION OF audit_parts FOR VALUES FROM (10) TO (20)`;
      await assertRefused(app`DELETE FROM part_2`, "a new partition");
      const stamp = await tablesStamp(sql);
      assert.equal(await tablesStamp(sql), stamp);
      await app`CREATE TABLE audit_2 (id int PRIMARY KEY)`;
      await app`DELETE FROM audit_2`;
      assert.notEqual(await tablesStamp(sql), stamp);
      assert.deepEqual(await enforce(sql, '[[table]]\nmatch = "*.audit*"\npolicy = "append_only"\n'), [
        "public.audit_2",
      ]);
      await assertRefused(app`DELETE FROM audit_2`, "a new table");
      await app`DROP TABLE audit_2`;

      // On a standby as well, whose guard refuses everybody else.
      await closeGuard(sql, { dbname: "postgres", epoch: 1, state: "standby" });
      await enforce(sql, '[[table]]\nmatch = "*.part_1"\npolicy = "append_only"\n');
      const after = { audit: "d", audit_parts: "d", other: "d", part_1: "d+", part_2: "d", person: "d" };
      assert.deepEqual(await stateOf(sql), after);
      await enforce(sql, '[[table]]\nmatch = "*.other"\npolicy = "append_only"\n');
      assert.deepEqual(await stateOf(sql), { ...after, part_1: "d", other: "d+" });
      await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
      await client()`DELETE FROM audit`;
    });
  });

  test(`PostgreSQL ${version}: merge_columns gives the replica identity it needs, and gives back what was there`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await migrate(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
      await sql.unsafe(`
        CREATE TABLE plain (id int PRIMARY KEY, v text);
        CREATE TABLE by_index (id int PRIMARY KEY, u int NOT NULL UNIQUE);
        ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_u_key;
        CREATE TABLE by_gone_index (id int PRIMARY KEY, u int NOT NULL UNIQUE);
        ALTER TABLE by_gone_index REPLICA IDENTITY USING INDEX by_gone_index_u_key;
        CREATE TABLE chosen_full (id int PRIMARY KEY);
        ALTER TABLE chosen_full REPLICA IDENTITY FULL;
        CREATE TABLE bare (v text);
        CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
        CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (10) TO (20)`);
      await ensureTables(sql);
      const before = await stateOf(sql);
      assert.deepEqual(before, {
        bare: "f",
        by_gone_index: "i",
        by_index: "i",
        chosen_full: "f",
        part_1: "d",
        part_2: "d",
        parted: "d",
        plain: "d",
      });
      const all = '[merge]\ndefault = "merge_columns"\n[[table]]\nmatch = "*.part_2"\npolicy = "primary_wins"\n';
      await enforce(sql, all);
      assert.deepEqual(await enforce(sql, all), []);
      const full = Object.fromEntries(Object.keys(before).map((name) => [name, "f"]));
      assert.deepEqual(await stateOf(sql), { ...full, part_2: "d" });
      const app = client();
      await app`CREATE TABLE part_3 PARTITION OF parted FOR VALUES FROM (20) TO (30)`;
      assert.equal((await stateOf(sql)).part_3, "f", "a partition made later is like its root at once");
      // A key that comes later; what the application sets back is set again.
      await app`ALTER TABLE bare ADD id int PRIMARY KEY`;
      await app`ALTER TABLE plain REPLICA IDENTITY DEFAULT`;
      await app`ALTER TABLE by_gone_index DROP CONSTRAINT by_gone_index_u_key`;
      await enforce(sql, all);
      assert.deepEqual(await stateOf(sql), { ...full, part_2: "d", part_3: "f" });
      const [row] = await sql`SELECT rows FROM ha.policy WHERE table_name = 'bare'`;
      assert.equal(row.rows, "merge_columns");

      await closeGuard(sql, { dbname: "postgres", epoch: 1, state: "standby" });
      await enforce(sql, "");
      assert.deepEqual(await stateOf(sql), { ...before, part_3: "d", bare: "d", by_gone_index: "d" });
      assert.equal((await sql`SELECT FROM ha.identity_full`).length, 0);
    });
  });

  test(
    `PostgreSQL ${version}: tables are read with roots, parents, columns and keys`,
    { timeout: 60_000 },
    async () => {
      await withServer(version, async ({ pool }) => {
        const sql = pool();
        await sql.unsafe(`
        CREATE SCHEMA vault;
        CREATE TABLE vault.log (a int, gone int, b int, c int, PRIMARY KEY (b, a) INCLUDE (c)) PARTITION BY RANGE (a);
        ALTER TABLE vault.log DROP COLUMN gone;
        CREATE TABLE vault.mid PARTITION OF vault.log FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (a);
        CREATE TABLE vault.leaf PARTITION OF vault.mid FOR VALUES FROM (0) TO (5);
        CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, sum int GENERATED ALWAYS AS (id + 1) STORED);
        CREATE TABLE child (own text) INHERITS (late);
        CREATE VIEW seen AS SELECT 1; CREATE TEMP TABLE passing (id int)`);
        const plain = { virtualColumns: [], generatedColumns: [] };
        const log = { columns: ["a", "b", "c"], primaryKey: ["b", "a"], schema: "vault", ...plain };
        const sum = { virtualColumns: [], generatedColumns: ["sum"], primaryKey: [] };
        const none = { root: null, parents: [] };
        assert.deepEqual(await readTables(sql), [
          {
            schema: "public",
            name: "child",
            label: "public.child",
            root: null,
            parents: ["public.late"],
            columns: ["id", "sum", "own"],
            ...sum,
          },
          { schema: "public", name: "late", label: "public.late", ...none, columns: ["id", "sum"], ...sum },
          { ...log, name: "leaf", label: "vault.leaf", root: "vault.log", parents: ["vault.mid"] },
          { ...log, name: "log", label: "vault.log", ...none },
          { ...log, name: "mid", label: "vault.mid", root: "vault.log", parents: ["vault.log"] },
        ]);
      });
    },
  );

  test(`PostgreSQL ${version}: a node looks after its tables while it runs`, { timeout: 60_000 }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql.unsafe(`CREATE TABLE log (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE note (id int)`);
      await migrate(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
      const troubles = new Map<string, string>();
      const open = (more: string) =>
        Tables.open({
          sql,
          config: config(more),
          origin: "agent.toml",
          onTrouble: (name, problem) => problem ? troubles.set(name, problem.message) : troubles.delete(name),
        });
      await assert.rejects(open('[[table]]\nmatch = "public.log2"\npolicy = "append_only"\n'), UsageError);
      assert.equal((await sql`SELECT FROM ha.policy`).length, 0, "of what is refused nothing is written");
      const tables = await open(`[merge]\ndefault = "merge_columns"
        [[table]]\nmatch = "public.log"\npolicy = "append_only"\nsecret = ["id"]\n`);
      assert.match(troubles.get("policies") ?? "", /^In agent\.toml: \[merge\].*public\.note/);
      tables.start();
      try {
        const app = client();
        await app`ALTER TABLE note ADD PRIMARY KEY (id)`;
        await app`CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10)`;
        assert.deepEqual(tables.policyOf("public.note").rows, "last_update_wins", "it had no key");
        // Asked for a table that it does not know, it looks at once.
        await waitFor(() => tables.policyOf("public.log_1").rows === "append_only", {
          what: "the policy of the new partition",
          deadlineMs: 5000,
        });
        assert.deepEqual(tables.secretOf("public.log_1"), ["id"]);
        assert.equal(tables.policyOf("public.note").rows, "merge_columns");
        assert.equal(tables.policyOf("public.nobody").rows, "merge_columns");
        await waitFor(() => troubles.size === 0, { what: "the end of the alarm", deadlineMs: 5000 });
        await waitFor(async () => (await stateOf(sql)).note === "f", { what: "note's identity", deadlineMs: 5000 });
      } finally {
        await tables.stop();
      }
    });
  });
}
