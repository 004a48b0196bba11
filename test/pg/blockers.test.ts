// Which rows a row cannot stand beside: every kind of unique index and exclusion constraint, asked of real tables.
import assert from "node:assert/strict";
import { test } from "node:test";
import { findBlockers } from "../../agent/apply/blockers.ts";
import type { Image } from "../../agent/apply/rows.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { readUniqueRules } from "../../agent/postgres/constraints.ts";
import { applierSession, inTransaction, readShape } from "../helpers/applier_session.ts";
import { versions, withServer } from "../helpers/servers.ts";

const schema = `
  CREATE SCHEMA "Odd ""one"; CREATE EXTENSION citext; CREATE EXTENSION btree_gist;
  CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  CREATE DOMAIN code AS text CHECK (VALUE <> '');
  CREATE TYPE mood AS ENUM ('sad', 'glad');
  CREATE TABLE "Odd ""one"."T 1" (id int PRIMARY KEY, gone int, "a Code" code, "timestamp" int, UNIQUE ("a Code", "timestamp"));
  ALTER TABLE "Odd ""one"."T 1" DROP COLUMN gone;
  CREATE TABLE person (id int PRIMARY KEY, name text, mail citext UNIQUE, roident text, active boolean, tags jsonb,
    nick text, moods mood[] UNIQUE, CONSTRAINT later UNIQUE (roident) DEFERRABLE INITIALLY DEFERRED);
  CREATE UNIQUE INDEX lowered ON person (lower(name)) WHERE active;
  CREATE UNIQUE INDEX tagged ON person ((tags->>'tag'), ((tags->>'n')::int + 1));
  CREATE UNIQUE INDEX blinded ON person (nick COLLATE blind);
  CREATE FUNCTION digest(person) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.id';
  CREATE UNIQUE INDEX whole ON person (digest(person.*));
  CREATE TABLE nulls (id int PRIMARY KEY, a int, b text, UNIQUE NULLS NOT DISTINCT (a, b));
  CREATE TABLE computed (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED UNIQUE);
  CREATE TABLE room (id int PRIMARY KEY, room int, during tstzrange, off boolean,
    CONSTRAINT apart EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (NOT off));
  CREATE TABLE loose (id int, v text); CREATE UNIQUE INDEX loose_id ON loose (id); ALTER TABLE loose REPLICA IDENTITY FULL;
  CREATE TABLE parts (id int, at int, v text, UNIQUE (v, at), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
  CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
  CREATE UNIQUE INDEX own ON parts_1 (upper(v));`;

const rows = `
  INSERT INTO "Odd ""one"."T 1" VALUES (1, 'a', 1), (2, 'b', NULL);
  INSERT INTO person VALUES (1, 'Ann', 'ann@x', 'r1', true, '{"tag": "t", "n": 1}', 'Nick', '{sad}'),
    (2, 'ann', 'b@x', 'r2', false, '{}', 'other', '{glad,sad}'), (3, NULL, NULL, NULL, true, NULL, NULL, NULL);
  INSERT INTO nulls VALUES (1, NULL, 'x'), (2, 1, NULL), (3, NULL, NULL);
  INSERT INTO computed VALUES (1, 5), (2, 6);
  INSERT INTO room VALUES (1, 7, '[2026-01-01, 2026-01-10)', false), (2, 7, '[2026-01-20, 2026-02-01)', false),
    (3, 7, '[2026-01-05, 2026-01-06)', true), (4, 8, '[2026-01-01, 2027-01-01)', false);
  INSERT INTO loose VALUES (1, 'x');
  INSERT INTO parts VALUES (1, 1, 'x'), (2, 2, 'y');`;

/** The blockers of the image, as `id: names of the rules`. */
function blockers(sql: Sql, table: string, image: Image, except?: Image, schemaName = "public"): Promise<string[]> {
  return inTransaction(sql, async () => {
    const shape = await readShape(sql, table, schemaName);
    const rules = await readUniqueRules(sql, schemaName, table);
    const found = await findBlockers(sql, shape, rules, image, "1", except);
    return found.map(({ row, rules }) => `${row.image.id}: ${rules.map((rule) => rule.name).join(" ")}`).sort();
  });
}

for (const version of versions) {
  test(`rows that stand in the way of another (PostgreSQL ${version})`, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema + rows);
      const person = {
        id: "9",
        name: null,
        mail: null,
        roident: null,
        active: "t",
        tags: null,
        nick: null,
        moods: null,
      };
      const of = (image: Image, except?: Image) => blockers(sql, "person", { ...person, ...image }, except);

      assert.deepEqual(await of({}), [], "NULL is like nothing");
      assert.deepEqual(await of({ mail: "ANN@X" }), ["1: person_mail_key"], "citext, in the extension's schema");
      assert.deepEqual(await of({ name: "ANN" }), ["1: lowered"], "the other one is not active");
      assert.deepEqual(await of({ name: "ANN", active: "f" }), [], "this one is not active");
      assert.deepEqual(await of({ tags: '{"n": 1, "tag": "t"}' }), ["1: tagged"]);
      assert.deepEqual(await of({ tags: '{"n": 2, "tag": "t"}' }), []);
      assert.deepEqual(await of({ nick: "nICK" }), ["1: blinded"], "the index has a collation of its own");
      assert.deepEqual(await of({ moods: "{glad,sad}" }), ["2: person_moods_key"]);
      assert.deepEqual(await of({ roident: "r1" }), ["1: later"]);
      assert.deepEqual(await of({ mail: "b@X", name: "aNN", nick: "OTHER", roident: "r1" }), [
        "1: later lowered",
        "2: blinded person_mail_key",
      ]);
      assert.deepEqual(await of({ id: "2", mail: "b@x", roident: "r1" }), ["1: later", "2: person_pkey"]);
      assert.deepEqual(
        await of({ id: "2", mail: "b@x" }, { id: "1" }),
        ["2: person_pkey person_mail_key"],
        "key change",
      );
      assert.deepEqual(await of({ id: "2", mail: "b@x" }, { id: "2" }), []);

      const odd = (image: Image) => blockers(sql, "T 1", image, undefined, 'Odd "one');
      assert.deepEqual(await odd({ id: "9", "a Code": "a", timestamp: "1" }), ["1: T 1_a Code_timestamp_key"]);
      assert.deepEqual(await odd({ id: "9", "a Code": "b", timestamp: null }), []);

      assert.deepEqual(await blockers(sql, "nulls", { id: "9", a: null, b: "x" }), ["1: nulls_a_b_key"]);
      assert.deepEqual(await blockers(sql, "nulls", { id: "9", a: null, b: null }), ["3: nulls_a_b_key"]);
      assert.deepEqual(await blockers(sql, "nulls", { id: "9", a: "2", b: null }), []);

      assert.deepEqual(await blockers(sql, "computed", { id: "9", a: "6" }), ["2: computed_twice_key"]);

      const room = { id: "9", room: "7", during: '["2026-01-05 00:00+00","2026-01-25 00:00+00")', off: "f" };
      assert.deepEqual(await blockers(sql, "room", room), ["1: apart", "2: apart"]);
      assert.deepEqual(await blockers(sql, "room", { ...room, id: "1" }), ["1: room_pkey", "2: apart"]);
      assert.deepEqual(await blockers(sql, "room", { ...room, off: "t" }), []);

      assert.deepEqual(await blockers(sql, "loose", { id: "1", v: "x" }), ["1: loose_id"]);
      assert.deepEqual(await blockers(sql, "loose", { id: "1", v: "y" }, { id: "1", v: "x" }), []);

      assert.deepEqual(await blockers(sql, "parts_1", { id: "9", at: "2", v: "y" }), ["2: own parts_1_v_at_key"]);
      assert.deepEqual(await blockers(sql, "parts_1", { id: "9", at: "3", v: "X" }), ["1: own"]);
    });
  });

  test(`what the catalog says of a rule (PostgreSQL ${version})`, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, schema);
      const rules = await readUniqueRules(sql, "public", "person");
      assert.deepEqual(rules.map((rule) => rule.name), [
        "person_pkey",
        "blinded",
        "later",
        "lowered",
        "person_mail_key",
        "person_moods_key",
        "tagged",
      ]);
      const [primary, , later, lowered, mail] = rules;
      assert.deepEqual(primary, {
        name: "person_pkey",
        primary: true,
        exclusion: false,
        immediate: true,
        predicate: null,
        nullsNotDistinct: false,
        expressions: ["id"],
        operators: ["OPERATOR(pg_catalog.=)"],
        collations: [null],
        columns: ["id"],
        generated: [],
      });
      assert.deepEqual([later.immediate, lowered.columns, lowered.predicate], [false, null, "active"]);
      assert.deepEqual(mail.operators, ["OPERATOR(public.=)"]);
      const [, apart] = await readUniqueRules(sql, "public", "room");
      assert.deepEqual([apart.exclusion, apart.operators], [true, [
        "OPERATOR(pg_catalog.=)",
        "OPERATOR(pg_catalog.&&)",
      ]]);
      assert.deepEqual(await readUniqueRules(sql, "public", "nothing"), []);
    });
  });
}

test("periods without overlaps (PostgreSQL 18)", { skip: !versions.includes(18) }, async () => {
  await withServer(18, async (server) => {
    const sql = await applierSession(
      server,
      `CREATE EXTENSION btree_gist;
       CREATE TABLE price (id int, at daterange, v int, PRIMARY KEY (id, at WITHOUT OVERLAPS),
         CONSTRAINT v_at UNIQUE (v, at WITHOUT OVERLAPS));
       INSERT INTO price VALUES (1, '[2026-01-01,2026-02-01)', 5), (1, '[2026-02-01,2026-03-01)', 6)`,
    );
    const [primary, other] = await readUniqueRules(sql, "public", "price");
    assert.deepEqual([primary.primary, primary.exclusion, other.exclusion, other.immediate], [true, true, true, true]);
    assert.deepEqual(primary.columns, ["id", "at"]);
    assert.deepEqual(await blockers(sql, "price", { id: "1", at: "[2026-01-15,2026-02-15)", v: "6" }), [
      "1: price_pkey",
      "1: price_pkey v_at",
    ]);
    const same = { id: "1", at: "[2026-01-01,2026-02-01)", v: "5" };
    assert.deepEqual(await blockers(sql, "price", same, same), []);
  });
});
