// Rows whose parent is gone, after what the applier's session lets pass: found by what was touched, and by nothing else.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Dangling, References } from "../../agent/apply/dangling.ts";
import type { Plan } from "../../agent/apply/plan.ts";
import type { Touch } from "../../agent/apply/reference_sql.ts";
import type { Image } from "../../agent/apply/rows.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { readForeignKeys } from "../../agent/postgres/constraints.ts";
import { applierSession, inTransaction, readPlans, readShape } from "../helpers/applier_session.ts";
import { versions, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

const schema = `
  CREATE EXTENSION citext;
  CREATE TABLE unit (id int PRIMARY KEY, boss int REFERENCES unit, code citext UNIQUE,
    twice int GENERATED ALWAYS AS (id * 2) STORED UNIQUE);
  CREATE TABLE person (id int PRIMARY KEY, unit bigint REFERENCES unit ON DELETE CASCADE, code citext REFERENCES unit (code),
    twice int REFERENCES unit (twice));
  CREATE TABLE remark (unit int REFERENCES unit DEFERRABLE INITIALLY DEFERRED, v text);
  CREATE SCHEMA "Odd ""one";
  CREATE TABLE "Odd ""one"."P 1" ("a b" int, c text COLLATE "C", PRIMARY KEY ("a b", c));
  CREATE TABLE "Odd ""one"."C 1" (id int PRIMARY KEY, "x y" int, z text,
    CONSTRAINT "to P" FOREIGN KEY ("x y", z) REFERENCES "Odd ""one"."P 1");
  CREATE TABLE list (a int, b int, v text, PRIMARY KEY (a, b)) PARTITION BY LIST (a);
  CREATE TABLE list_1 PARTITION OF list FOR VALUES IN (1);
  CREATE TABLE list_2 PARTITION OF list FOR VALUES IN (2) PARTITION BY LIST (b);
  CREATE TABLE list_2_d (v text, b int NOT NULL, a int NOT NULL);
  ALTER TABLE list_2 ATTACH PARTITION list_2_d DEFAULT;
  CREATE TABLE item (id int, at int, a int, b int, PRIMARY KEY (id, at), CONSTRAINT to_list FOREIGN KEY (a, b) REFERENCES list)
    PARTITION BY RANGE (at);
  CREATE TABLE item_0 PARTITION OF item FOR VALUES FROM (0) TO (10);
  CREATE TABLE item_1 (b int, a int, at int NOT NULL, id int NOT NULL);
  ALTER TABLE item ATTACH PARTITION item_1 FOR VALUES FROM (10) TO (20);
  CREATE TABLE exact (id int PRIMARY KEY, a int, b int, CONSTRAINT to_1 FOREIGN KEY (a, b) REFERENCES list_1 (a, b));`;

const referencesOf = (sql: Sql): References =>
  new References(sql, () => "1", (s, t) => readForeignKeys(sql, s, t), (s, t) => readShape(sql, t, s));

/** `child table id (constraint: parent's key)`, sorted. */
const told = (found: readonly Dangling[]): string[] =>
  found.map(({ foreignKey, child, childShape, parentKey }) => {
    const key = Object.entries(parentKey).map(([name, value]) => `${name} ${value}`).join(", ");
    return `${childShape.table} ${child.image.id ?? child.image.v} (${foreignKey.name}: ${key})`;
  }).sort();

for (const version of versions) {
  test(`what the catalog says of foreign keys (PostgreSQL ${version})`, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema);
      const keysOf = async (table: string) =>
        (await readForeignKeys(sql, "public", table)).map(({ name, child, parent, asChild, asParent }) =>
          `${name}: ${child.table} > ${parent.table}${asChild ? " child" : ""}${asParent ? " parent" : ""}`
        );
      assert.deepEqual(await keysOf("unit"), [
        "person_code_fkey: person > unit parent",
        "person_twice_fkey: person > unit parent",
        "person_unit_fkey: person > unit parent",
        "remark_unit_fkey: remark > unit parent",
        "unit_boss_fkey: unit > unit child parent",
      ]);
      const ofPartition = ["to_list: item_0 > list parent", "to_list: item_1 > list parent"];
      assert.deepEqual(await keysOf("list_2_d"), ofPartition);
      assert.deepEqual(await keysOf("list_1"), ["to_1: exact > list_1 parent", ...ofPartition]);
      assert.deepEqual(await keysOf("item_1"), ["to_list: item_1 > list child"]);
      assert.deepEqual(await keysOf("exact"), ["to_1: exact > list_1 child"]);
      assert.deepEqual(await keysOf("nothing"), []);
      const [odd] = await readForeignKeys(sql, 'Odd "one', "C 1");
      assert.deepEqual(odd, {
        name: "to P",
        asChild: true,
        asParent: false,
        child: { schema: 'Odd "one', table: "C 1" },
        childColumns: ["x y", "z"],
        parent: { schema: 'Odd "one', table: "P 1" },
        parentColumns: ["a b", "c"],
        parentPartitioned: false,
        operators: ["OPERATOR(pg_catalog.=)", "OPERATOR(pg_catalog.=)"],
        collations: [null, 'pg_catalog."C"'],
        onDelete: "no action",
        period: false,
      });
      const [, , cascade] = await readForeignKeys(sql, "public", "person");
      assert.equal(cascade.onDelete, "cascade");
    });
  });

  test(`rows whose parent is gone (PostgreSQL ${version})`, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema);
      const references = referencesOf(sql);
      const [unit, person, remark] = [
        await readShape(sql, "unit"),
        await readShape(sql, "person"),
        await readShape(sql, "remark"),
      ];
      const find = async () => told(await references.find());
      await sql.unsafe(`
        INSERT INTO unit VALUES (1, NULL, 'One'), (2, 1, 'Two'), (3, 99, 'Old');
        INSERT INTO person VALUES (1, 1, 'ONE', 2), (2, NULL, 'two', NULL), (3, NULL, NULL, NULL), (9, 98, NULL, NULL);
        INSERT INTO remark VALUES (1, 'x'), (1, 'x'), (NULL, 'none'), (97, 'old')`);

      await inTransaction(sql, async () => {
        for (const id of ["1", "2", "3"]) references.noteWritten(person, { id });
        references.noteWritten(unit, { id: "2" });
        references.noteWritten(remark, { unit: "1", v: "x" });
        assert.deepEqual(await find(), [], "rows that were not touched do not matter");
        references.noteWritten(person, { id: "9" });
        references.noteWritten(unit, { id: "3", boss: "99", code: "Old" });
        references.noteWritten(remark, { unit: "97", v: "old" });
        assert.deepEqual(await find(), [
          "person 9 (person_unit_fkey: id 98)",
          "remark old (remark_unit_fkey: id 97)",
          "unit 3 (unit_boss_fkey: id 99)",
        ]);
        assert.deepEqual(await find(), [], "what was noted is looked at once");
        references.noteWritten(person, { id: "9" });
        references.clear();
        assert.deepEqual(await find(), []);
      });

      await inTransaction(sql, async () => {
        await sql.unsafe("DELETE FROM unit WHERE id = 1");
        references.noteGone(unit, { id: "1" }, { id: "1", boss: null, code: "One" });
        const found = await references.find();
        assert.deepEqual(told(found), [
          "person 1 (person_code_fkey: code ONE)",
          // Nothing tells what the generated column was: all children are looked at.
          "person 1 (person_twice_fkey: twice 2)",
          "person 1 (person_unit_fkey: id 1)",
          "remark x (remark_unit_fkey: id 1)",
          "remark x (remark_unit_fkey: id 1)",
          "unit 2 (unit_boss_fkey: id 1)",
        ]);
        const { child, parentShape, childShape } = found.find((one) => one.childShape.table === "person")!;
        assert.deepEqual(child.image, { id: "1", unit: "1", code: "ONE", twice: "2" });
        assert.ok(child.name.startsWith("public\0person\0"));
        assert.deepEqual([parentShape.table, childShape.table], ["unit", "person"]);
      });

      await inTransaction(sql, async () => {
        // A parent that is written anew, or another one with the same value, is not gone.
        await sql.unsafe("DELETE FROM unit WHERE id IN (1, 2); INSERT INTO unit VALUES (1, NULL, 'TWO')");
        references.noteGone(unit, { id: "1" });
        references.noteGone(unit, { id: "2" });
        assert.deepEqual(await find(), ["person 1 (person_code_fkey: code ONE)"]);
      });

      await inTransaction(sql, async () => {
        await sql.unsafe("DELETE FROM unit");
        references.noteEmptied(unit);
        assert.equal((await find()).length, 8);
      });
      assert.equal(await references.refersBeyondKey(unit), true);
      assert.equal(await references.refersBeyondKey(person), false);
    });
  });

  test(`composite keys, odd names, partitions (PostgreSQL ${version})`, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema);
      const references = referencesOf(sql);
      await sql.unsafe(`
        INSERT INTO "Odd ""one"."P 1" VALUES (1, 'a'), (1, 'b');
        INSERT INTO "Odd ""one"."C 1" VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 1, NULL), (4, 2, 'a');
        INSERT INTO list VALUES (1, 1), (1, 2), (2, 1), (2, 2);
        INSERT INTO item VALUES (1, 1, 1, 1), (2, 2, 2, 1), (3, 11, 2, 2), (4, 12, 2, 1);
        INSERT INTO exact VALUES (1, 1, 1), (2, 1, 2), (3, 2, 2)`);
      const [parent, child] = [await readShape(sql, "P 1", 'Odd "one'), await readShape(sql, "C 1", 'Odd "one')];
      await inTransaction(sql, async () => {
        await sql.unsafe(`DELETE FROM "Odd ""one"."P 1" WHERE c = 'b'`);
        references.noteGone(parent, { "a b": "1", c: "b" });
        assert.deepEqual(told(await references.find()), ["C 1 2 (to P: c b, a b 1)"]);
        for (const id of ["1", "2", "3", "4"]) references.noteWritten(child, { id });
        assert.deepEqual(told(await references.find()), ["C 1 2 (to P: c b, a b 1)", "C 1 4 (to P: c a, a b 2)"]);
      });
      await inTransaction(sql, async () => {
        await sql.unsafe("DELETE FROM list WHERE b = 1");
        references.noteGone(await readShape(sql, "list_1"), { a: "1", b: "1" });
        references.noteGone(await readShape(sql, "list_2_d"), { a: "2", b: "1" });
        const found = await references.find();
        assert.deepEqual(told(found), [
          "exact 1 (to_1: a 1, b 1)",
          "item_0 1 (to_list: a 1, b 1)",
          "item_0 2 (to_list: a 2, b 1)",
          "item_1 4 (to_list: a 2, b 1)",
        ]);
        assert.equal(found.find((one) => one.foreignKey.name === "to_list")!.parentShape.table, "list");
        // A row may move to another partition: the parent is in the whole table.
        await sql.unsafe("INSERT INTO list VALUES (1, 1), (2, 1)");
        references.noteGone(await readShape(sql, "list_1"), { a: "1", b: "1" });
        for (const [id, at] of [["1", "1"], ["2", "2"]]) {
          references.noteWritten(await readShape(sql, "item_0"), { id, at });
        }
        references.noteWritten(await readShape(sql, "exact"), { id: "1" });
        assert.deepEqual(told(await references.find()), []);
        references.noteWritten(await readShape(sql, "exact"), { id: "3" });
        assert.deepEqual(told(await references.find()), ["exact 3 (to_1: a 2, b 2)"]);
      });
    });
  });

  test(`what is staged, by tens of thousands (PostgreSQL ${version})`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema);
      const references = referencesOf(sql);
      const [unit, person, remark] = await readPlans(sql, "unit", "person", "remark");
      await sql.unsafe(`
        INSERT INTO unit SELECT i FROM generate_series(1, 30000) i;
        INSERT INTO person SELECT i, i FROM generate_series(1, 45000) i; INSERT INTO remark SELECT i, i FROM generate_series(1, 30010) i`);
      await inTransaction(sql, async () => {
        /** How many were found, of each table; all of them are removed. */
        const removed = async (found: readonly Dangling[]) => {
          for (const { childShape: { target }, place } of found) {
            await sql.unsafe(`DELETE FROM ${target} WHERE ctid = $1::tid`, [place], { prepare: true });
          }
          const tables = Map.groupBy(found, (one) => one.childShape.table);
          return Object.fromEntries([...tables].map(([table, rows]) => [table, rows.length]));
        };
        const inStage = async (plan: Plan, touch: Touch) => removed(await references.findInStage(plan, touch));
        await sql.unsafe(`INSERT INTO ${person.stage} (ha_n, id) SELECT -i, i FROM generate_series(1, 41000) i;
          INSERT INTO ${person.stage} (ha_n, id) VALUES (1, 41001)`);
        assert.deepEqual(await inStage(person, "written"), { person: 11000 }, "of those staged");
        assert.deepEqual(await inStage(person, "written"), {});
        assert.deepEqual(await inStage(person, "gone"), {}, "nothing refers to it");

        await sql.unsafe(
          `INSERT INTO ${remark.stage} (ha_n, unit, v) SELECT -i, i, i FROM generate_series(20000, 30005) i`,
        );
        assert.deepEqual(await inStage(remark, "written"), { remark: 5 });

        await sql.unsafe("DELETE FROM person WHERE id > 30000; DELETE FROM unit WHERE id <= 15000");
        await sql.unsafe(`INSERT INTO ${unit.stage} (ha_n, id) SELECT -i, i FROM generate_series(1, 16000) i`);
        assert.deepEqual(await inStage(unit, "gone"), { person: 10000, remark: 15000 }, "not all at once");
        assert.deepEqual(
          await removed(await references.find()),
          { person: 5000, remark: 5 },
          "what else has no parent",
        );
        assert.deepEqual(await references.find(), []);
      });
    });
  });
}

test("parents that were found stay until the end, and those that go meanwhile are waited for", async () => {
  await withServer(versions[0], async (server) => {
    const sql = await applierSession(server, schema);
    const references = referencesOf(sql);
    const person = await readShape(sql, "person");
    const [app, watcher] = [server.client({ max: 1 }), server.pool()];
    const waits = () =>
      waitFor(async () => {
        const [{ n }] = await watcher`SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'`;
        return n > 0;
      }, { what: "a session that waits for a lock", deadlineMs: 10_000 });
    await sql.unsafe("INSERT INTO unit VALUES (1), (2)");
    await sql.unsafe("BEGIN; INSERT INTO person VALUES (1, 1)").simple();
    references.noteWritten(person, { id: "1" });
    assert.deepEqual(await references.find(), []);
    const deleted = app.unsafe("DELETE FROM unit WHERE id = 1").execute();
    await waits();
    await sql.unsafe("COMMIT");
    await deleted;
    assert.equal((await sql`SELECT FROM person`).length, 0, "the application's delete went on to the child");

    await app.unsafe("BEGIN; DELETE FROM unit WHERE id = 2").simple();
    await sql.unsafe("BEGIN; INSERT INTO person VALUES (2, 2)").simple();
    references.noteWritten(person, { id: "2" });
    const found = references.find();
    await waits();
    await app.unsafe("COMMIT");
    assert.deepEqual(told(await found), ["person 2 (person_unit_fkey: id 2)"]);
    await sql.unsafe("ROLLBACK");

    // A child that the application is writing is judged as it stands then.
    await sql.unsafe("INSERT INTO unit VALUES (3), (4); INSERT INTO person VALUES (3, 3)");
    for (const [change, expected] of [["twice = NULL", 1], ["unit = 4", 0]] as const) {
      await app.unsafe(`BEGIN; UPDATE person SET ${change}`).simple();
      await sql.unsafe("BEGIN; DELETE FROM unit WHERE id = 3").simple();
      references.noteGone(await readShape(sql, "unit"), { id: "3" });
      const found = references.find();
      await waits();
      await app.unsafe("COMMIT");
      assert.equal((await found).length, expected);
      await sql.unsafe("ROLLBACK");
    }
  });
});

test("periods, and keys that are not enforced (PostgreSQL 18)", { skip: !versions.includes(18) }, async () => {
  await withServer(18, async (server) => {
    const sql = await applierSession(
      server,
      `CREATE EXTENSION btree_gist;
       CREATE TABLE job (id int, at daterange, PRIMARY KEY (id, at WITHOUT OVERLAPS));
       CREATE TABLE pay (id int PRIMARY KEY, job int, during daterange, other int,
         CONSTRAINT to_job FOREIGN KEY (job, PERIOD during) REFERENCES job (id, PERIOD at));
       ALTER TABLE pay ADD CONSTRAINT loosely FOREIGN KEY (other) REFERENCES pay NOT ENFORCED;
       INSERT INTO job VALUES (1, '[2026-01-01,2026-02-01)'), (1, '[2026-02-01,2026-03-01)'), (2, '[2026-01-01,2026-02-01)');
       INSERT INTO pay VALUES (1, 1, '[2026-01-10,2026-02-10)', 77), (2, 1, '[2026-01-10,2026-01-20)', 1), (3, 2, NULL, 1)`,
    );
    const references = referencesOf(sql);
    const pay = await readShape(sql, "pay"), job = await readShape(sql, "job");
    assert.deepEqual((await readForeignKeys(sql, "public", "pay")).map(({ name, period }) => [name, period]), [
      ["to_job", true],
    ]);
    const note = () => ["1", "2", "3"].forEach((id) => references.noteWritten(pay, { id }));
    await inTransaction(sql, async () => {
      note();
      assert.deepEqual(await references.find(), []);
      const gone: Image = { id: "1", at: "[2026-02-01,2026-03-01)" };
      await sql.unsafe("DELETE FROM job WHERE at = '[2026-02-01,2026-03-01)'");
      references.noteGone(job, gone);
      const dangling = ["pay 1 (to_job: at [2026-01-10,2026-02-10), id 1)"];
      assert.deepEqual(told(await references.find()), dangling);
      note();
      assert.deepEqual(told(await references.find()), dangling);
    });
  });
});
