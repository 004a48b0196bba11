// Unique and exclusion constraints asked for many rows at once, on real tables.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Image } from "../../agent/apply/rows.ts";
import { findCollisions, findDuplicates, inSets } from "../../agent/apply/unique_sets.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { readUniqueRules } from "../../agent/postgres/constraints.ts";
import { applierSession, inTransaction, readPlans, readShape } from "../helpers/applier_session.ts";
import { versions, withServer } from "../helpers/servers.ts";

const schema = `
  CREATE EXTENSION citext; CREATE EXTENSION btree_gist;
  CREATE TABLE person (id int PRIMARY KEY, code int UNIQUE, mail citext, part text, twice int GENERATED ALWAYS AS (code * 2)
    STORED UNIQUE, loose int, CONSTRAINT mails UNIQUE NULLS NOT DISTINCT (mail, part), UNIQUE (id, part),
    CONSTRAINT loosely UNIQUE (loose) DEFERRABLE, EXCLUDE USING gist (code WITH =, loose WITH <>));
  CREATE UNIQUE INDEX lowered ON person (lower(part)) WHERE part IS NOT NULL;
  CREATE TABLE keyless (a int, b text); CREATE UNIQUE INDEX keyless_a ON keyless (a);
  ALTER TABLE keyless REPLICA IDENTITY FULL;
  CREATE TABLE "T 1" ("a b" int, n int, "on" int, during int4range, off boolean, PRIMARY KEY ("a b", n),
    CONSTRAINT later UNIQUE ("on") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT nulls UNIQUE NULLS NOT DISTINCT ("on", n) DEFERRABLE,
    CONSTRAINT apart EXCLUDE USING gist ((n + 0) WITH =, during WITH &&) WHERE (NOT off) DEFERRABLE);`;

for (const version of versions) {
  test(`rows staged whose unique values another row holds (PostgreSQL ${version})`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema);
      const [person, keyless] = await readPlans(sql, "person", "keyless");
      const rules = await readUniqueRules(sql, "public", "person");
      assert.deepEqual(rules.filter((rule) => inSets(person, rule)).map((rule) => rule.name), [
        "mails",
        "person_code_key",
        "person_twice_key",
      ]);
      await sql.unsafe(`INSERT INTO person SELECT i, i, 'mail ' || i, i FROM generate_series(1, 100000) i;
        UPDATE person SET mail = NULL, part = NULL WHERE id = 7; INSERT INTO keyless VALUES (1, 'x')`);
      await inTransaction(sql, async () => {
        const stage = (rows: string) =>
          sql.unsafe(`DELETE FROM ${person.stage}; INSERT INTO ${person.stage} (ha_n, id, code, mail, part) ${rows}`);
        const found = async (names: readonly string[]) =>
          (await findCollisions(sql, person, rules.filter(({ name }) => names.includes(name)))).sort((a, b) => b - a);
        await stage(`VALUES (-1, 1, 1, 'mail 1', '1'), (-2, 2, 3, 'MAIL 5', '5'), (-3, 7, 200001, NULL, NULL),
          (-4, 200002, 200002, NULL, NULL), (-5, 200003, 9, 'mail 9', '10'), (6, 200004, 9, 'mail 9', '9')`);
        assert.deepEqual(await found(["person_code_key"]), [-2, -5]);
        assert.deepEqual(await found(["person_twice_key"]), [-2, -5], "a generated column is computed");
        assert.deepEqual(await found(["mails"]), [-2, -4], "citext; NULL is like NULL there");
        assert.deepEqual(await found(["loosely", "lowered", "person_pkey", "person_id_part_key"]), [], "not for sets");
        assert.deepEqual(await found(rules.map(({ name }) => name)), [-2, -4, -5]);

        await stage(`SELECT -i, i, i + (i % 100 = 0)::int, 'mail ' || i, i FROM generate_series(1, 50000) i`);
        assert.equal((await found(rules.map(({ name }) => name))).length, 500);

        await sql.unsafe(`INSERT INTO ${keyless.stage} (ha_n, a, b) VALUES (-1, 1, 'y'), (-2, 2, 'x')`);
        assert.deepEqual(await findCollisions(sql, keyless, await readUniqueRules(sql, "public", "keyless")), [-1]);
      });
    });
  });

  test(`rows that a deferrable constraint let pass (PostgreSQL ${version})`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema);
      const shape = await readShape(sql, "T 1");
      const rules = await readUniqueRules(sql, "public", "T 1");
      assert.deepEqual(rules.map(({ name, immediate }) => [name, immediate]), [
        ["T 1_pkey", true],
        ["apart", false],
        ["later", false],
        ["nulls", false],
      ]);
      await sql.unsafe(`INSERT INTO "T 1" VALUES (1, 1, 1, '[1,5)', false), (2, 1, 2, '[5,9)', false)`);
      const found = async (sql: Sql, keys: Image[]) =>
        (await findDuplicates(sql, shape, rules, keys, "1")).map(({ row, other, rule }) =>
          `${rule.name}: ${row.image["a b"]} ${other.image["a b"]}`
        ).sort();
      const key = (id: number) => ({ "a b": String(id), n: "1" });
      await inTransaction(sql, async () => {
        assert.deepEqual(await found(sql, [key(1), key(2), key(3)]), []);
        assert.deepEqual(await found(sql, []), []);
        await sql.unsafe(`INSERT INTO "T 1" VALUES (3, 1, 1, '[4,6)', false), (4, 1, NULL, '[4,6)', true),
          (5, 1, NULL, NULL, false), (6, 2, 2, '[1,100)', false)`);
        assert.deepEqual(await found(sql, [key(3)]), ["apart: 3 1", "apart: 3 2", "later: 3 1", "nulls: 3 1"]);
        assert.deepEqual(await found(sql, [key(1)]), ["apart: 1 3", "later: 1 3", "nulls: 1 3"]);
        const all = await found(sql, [1, 2, 3, 4, 5].map(key));
        assert.deepEqual(all.map((line) => line.split(":")[0]), ["apart", "apart", "later", "later", "nulls", "nulls"]);
        const rows = await findDuplicates(sql, shape, rules, [key(4)], "1");
        assert.deepEqual([rows.length, rows[0].rule.name, rows[0].other.image["a b"]], [1, "nulls", "5"]);
        assert.equal(rows[0].row.writer.xid, rows[0].other.writer.xid);
      });
      await sql.unsafe(`DELETE FROM "T 1"; INSERT INTO "T 1" SELECT i, 1, i, int4range(i * 10, i * 10 + 10), false
        FROM generate_series(1, 20000) i; UPDATE "T 1" SET "on" = 1 WHERE "a b" = 20000`);
      const keys = Array.from({ length: 20_000 }, (_, i) => key(i + 1));
      const pairs = await inTransaction(sql, () => found(sql, keys));
      assert.deepEqual(pairs.map((pair) => pair.split(":")[0]), ["later", "nulls"]);
    });
  });
}
