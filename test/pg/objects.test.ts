// Schema ha, guard triggers, replica identities and the publication on real tables, old and new.
import assert from "node:assert/strict";
import { test } from "node:test";
import { readRelation, readTypes } from "../../agent/postgres/catalog.ts";
import { migrate, schemaVersion } from "../../agent/postgres/migrations.ts";
import { ensureTables } from "../../agent/postgres/objects.ts";
import { checkSettings, readSettings } from "../../agent/postgres/settings.ts";
import { ensureNode, openGuard } from "../../agent/role/guard.ts";
import { versions, withServer } from "../helpers/servers.ts";

for (const version of versions) {
  test(
    `PostgreSQL ${version}: migrations are idempotent, also when two agents run them at once`,
    { timeout: 60_000 },
    async () => {
      await withServer(version, async ({ pool }) => {
        const sql = pool();
        const applied = await Promise.all([migrate(sql), migrate(sql)]);
        assert.deepEqual(applied.flat().sort(), Array.from({ length: schemaVersion }, (_, index) => index + 1));
        assert.deepEqual(await migrate(sql), []);
        assert.deepEqual(checkSettings(await readSettings(sql)), []);
        await sql`INSERT INTO ha.migration VALUES (${schemaVersion + 1})`;
        await assert.rejects(migrate(sql), /this agent knows/);
      });
    },
  );

  test(`PostgreSQL ${version}: tables get guard and identity, at setup and as they come and change`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql.unsafe(`
        CREATE TABLE keyed (id int PRIMARY KEY);
        CREATE TABLE bare (v text);
        CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
        CREATE TABLE by_index (id int NOT NULL UNIQUE, v text);
        ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id_key;
        CREATE TABLE chosen_full (id int PRIMARY KEY);
        ALTER TABLE chosen_full REPLICA IDENTITY FULL;
        CREATE UNLOGGED TABLE unlogged (v text);
        CREATE SCHEMA "Other";
        CREATE TABLE "Other"."Odd ""name" (v text);
        CREATE TABLE parted (id int) PARTITION BY RANGE (id);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)`);
      await migrate(sql);
      const changed = await ensureTables(sql);
      assert.equal(changed.length, 9);
      assert.deepEqual(await ensureTables(sql), []);
      const state = async () =>
        Object.fromEntries(
          (await sql`SELECT table_name, guard::text || identity::text AS is FROM ha.user_table`).map((
            row,
          ) => [row.table_name, row.is]),
        );
      assert.deepEqual(await state(), {
        "keyed": "Od",
        "bare": "Of",
        "late": "Of",
        "by_index": "Oi",
        "chosen_full": "Of",
        "unlogged": "Od",
        'Odd "name': "Of",
        "parted": "Of",
        "parted_1": "Of",
      });

      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
      const app = client();
      await app.unsafe("CREATE ROLE dev LOGIN; GRANT ALL ON SCHEMA public TO dev");
      const dev = client({ user: "dev" });
      await dev.unsafe(`
        CREATE TABLE made (v text);
        CREATE TABLE made_parted (id int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE made_part PARTITION OF made_parted FOR VALUES FROM (0) TO (10);
        CREATE TABLE made_as AS SELECT 1 AS one;
        CREATE TEMP TABLE temporary (v text)`);
      await app.unsafe("CREATE SCHEMA made_schema CREATE TABLE nested (v text)");
      await app.unsafe("ALTER TABLE bare ADD id int PRIMARY KEY; ALTER TABLE chosen_full DISABLE TRIGGER ALL");
      await app.unsafe("ALTER TABLE parted ADD PRIMARY KEY (id); ALTER TABLE keyed DROP CONSTRAINT keyed_pkey");
      const now = await state();
      assert.deepEqual(
        [now.made, now.made_parted, now.made_part, now.made_as, now.nested, now.temporary],
        ["Of", "Od", "Od", "Of", "Of", undefined],
      );
      assert.deepEqual(
        [now.bare, now.chosen_full, now.parted, now.parted_1, now.keyed],
        ["Od", "Of", "Od", "Od", "Of"],
      );
      assert.deepEqual(await ensureTables(sql), []);
      await assert.rejects(dev`DROP TRIGGER ha_guard ON made`, /Cannot drop trigger ha_guard on public.made/);
      await dev`DROP TABLE made`;
      await app`INSERT INTO by_index VALUES (1, 'a')`;
      await app`UPDATE by_index SET v = 'b'`;
      const [publication] = await sql`SELECT puballtables, pubviaroot FROM pg_publication WHERE pubname = 'ha_changes'`;
      assert.deepEqual({ ...publication }, { puballtables: true, pubviaroot: false });
    });
  });

  test(`PostgreSQL ${version}: conflicts are shown to those who may read the table`, { timeout: 60_000 }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await migrate(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
      await sql.unsafe(`CREATE TABLE secret (v text); CREATE TABLE open (v text); CREATE ROLE reader LOGIN;
        GRANT SELECT ON open TO reader;
        INSERT INTO ha.conflict (kind, schema_name, table_name)
          VALUES ('insert_exists', 'public', 'secret'), ('insert_exists', 'public', 'open')`);
      const reader = client({ user: "reader" });
      const seen = await reader`SELECT table_name FROM ha.conflict`;
      assert.deepEqual(seen.map((row) => row.table_name), ["open"]);
      assert.deepEqual({ ...(await reader`SELECT role, writable FROM ha.status`)[0] }, {
        role: "primary",
        writable: true,
      });
      await assert.rejects(reader`SELECT * FROM ha.state`, /permission denied/);
      await assert.rejects(reader`SELECT ha.ensure_table(1)`, /permission denied/);
    });
  });

  test(`PostgreSQL ${version}: relations and types are read from the catalog`, { timeout: 60_000 }, async () => {
    await withServer(version, async ({ pool }) => {
      const sql = pool();
      await sql.unsafe(`
        CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN name_t AS varchar(20);
        CREATE TYPE pair_t AS (a mood, b int[]); CREATE TYPE mood_range AS RANGE (subtype = mood);
        CREATE TABLE "T x" (b int, a bigint GENERATED ALWAYS AS IDENTITY, gone int, n numeric(10,2) NOT NULL, p pair_t[],
          d name_t, r mood_range, acl aclitem, g bigint GENERATED ALWAYS AS (a * 2) STORED,
          PRIMARY KEY (n, a), UNIQUE (b) INCLUDE (g));
        ALTER TABLE "T x" DROP COLUMN gone;
        CREATE UNIQUE INDEX partial ON "T x" (b) WHERE b > 0`);
      assert.equal(await readRelation(sql, "public", "none"), null);
      const relation = await readRelation(sql, "public", "T x");
      assert.ok(relation);
      assert.deepEqual(relation.primaryKey, ["n", "a"]);
      assert.deepEqual(relation.uniqueKeys, [["b"]]);
      assert.deepEqual([relation.kind, relation.replicaIdentity, typeof relation.oid], ["r", "d", "number"]);
      const column = Object.fromEntries(relation.columns.map((each) => [each.name, each]));
      assert.deepEqual(Object.keys(column), ["b", "a", "n", "p", "d", "r", "acl", "g"]);
      assert.equal(column.n.typeName, "numeric(10,2)");
      assert.deepEqual([column.a.identity, column.g.generated, column.acl.hasSend], ["a", "s", false]);
      const types = await readTypes(sql, relation.columns.map((each) => each.typeOid));
      const named = (name: string) => [...types.values()].find((type) => type.name === name);
      const array = types.get(column.p.typeOid);
      assert.equal(array?.kind, "array");
      assert.deepEqual(array.element, named("pair_t")?.oid);
      assert.deepEqual([named("mood")?.kind, named("_int4")?.kind, named("mood_range")?.kind], [
        "enum",
        "array",
        "range",
      ]);
      assert.deepEqual([named("name_t")?.kind, named("varchar")?.kind, named("int4")?.kind], [
        "domain",
        "base",
        "base",
      ]);
    });
  });
}
