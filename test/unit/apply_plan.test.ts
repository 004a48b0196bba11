// How a relation of the peer's goes into the local table; and that what does not fit is said, with the DDL that helps.
import assert from "node:assert/strict";
import { test } from "node:test";
import { holdsUserOids, type Plan, planRelation, SchemaMismatch, timestampLiteral } from "../../agent/apply/plan.ts";
import { decodeRelation, type TypeName } from "../../agent/change/pgoutput.ts";
import type { Column, Relation, TypeDescription } from "../../agent/postgres/catalog.ts";
import * as make from "../helpers/messages.ts";
import { baseType, column, int4Oid, localTable, textOid } from "../helpers/plans.ts";

const int4 = (name: string, more: Partial<Column> = {}) =>
  column(name, { typeOid: int4Oid, typeName: "integer", ...more });
const types = new Map<number, TypeDescription>(
  [baseType(textOid, "text"), baseType(int4Oid, "int4")].map((type) => [type.oid, type]),
);
const texts = new Map([[textOid, "text"], [int4Oid, "integer"]]);

function plan(
  remote: make.ColumnSpec[],
  local: Relation | null,
  { identity = "d", name = "t", remoteTypes = new Map<number, TypeName>(), localTypes = types } = {},
): Plan {
  const relation = decodeRelation(make.relation(1, "public", name, remote, identity));
  return planRelation(relation, local, remoteTypes, localTypes, (c) => texts.get(c.typeOid) ?? "mood", 7);
}
const id = { name: "id", key: true, typeOid: int4Oid };
const v = { name: "v" };

test("a table that fits: by its key, straight into COPY", () => {
  const made = plan(
    [id, v],
    localTable([int4("id"), column("v"), column("more", { hasDefault: true, notNull: true })]),
  );
  assert.equal(made.label, "public.t");
  assert.equal(made.target, '"public"."t"');
  assert.equal(made.stage, "pg_temp.ha_stage_7");
  assert.deepEqual(made.keyPositions, [0]);
  assert.deepEqual([made.direct, made.wholeRow], [true, false]);
  assert.deepEqual(made.columns.map((c) => [c.position, c.name, c.key, c.settable]), [
    [0, "id", true, false],
    [1, "v", false, true],
  ]);
});

test("columns are found by name, whatever their order here", () => {
  const made = plan([v, id], localTable([int4("id"), column("v")]));
  assert.deepEqual(made.columns.map((c) => [c.name, c.typeName]), [["v", "text"], ["id", "integer"]]);
  assert.deepEqual(made.keyPositions, [1]);
});

test("REPLICA IDENTITY FULL: by the primary key, or by the whole row where there is none", () => {
  const all = [id, { ...v, key: true }];
  const keyed = plan(all, localTable([int4("id"), column("v")]), { identity: "f" });
  assert.deepEqual([keyed.keyPositions, keyed.wholeRow], [[0], false]);
  const keyless = plan(all, localTable([int4("id"), column("v")], { primaryKey: [] }), { identity: "f" });
  assert.deepEqual([keyless.keyPositions, keyless.wholeRow], [[], true]);
});

test("names are quoted, always-identity is never set, text where there is no binary form", () => {
  const local = localTable([int4("id"), int4('a"b', { identity: "a" }), column("x", { hasSend: false })]);
  const made = plan([id, { name: 'a"b', typeOid: int4Oid }, { name: "x" }], local, { name: 'T"' });
  assert.equal(made.target, '"public"."T"""');
  const [, identity, x] = made.columns;
  assert.deepEqual([identity.quoted, identity.settable], ['"a""b"', false]);
  assert.deepEqual([x.binary, x.stageType, made.direct], [false, "text", false]);
});

const mismatches: [what: string, () => Plan, problem: string, ddl: string | null][] = [
  [
    "no table",
    () => plan([id, v], null),
    "the table is missing here",
    'CREATE TABLE "public"."t" ("id" integer, "v" text, PRIMARY KEY ("id"))',
  ],
  [
    "no table, and no key",
    () => plan([{ ...id }, { ...v, key: true }], null, { identity: "f" }),
    "the table is missing here",
    'CREATE TABLE "public"."t" ("id" integer, "v" text)',
  ],
  [
    "no column",
    () => plan([id, v], localTable([int4("id")])),
    "column v is missing here",
    'ALTER TABLE "public"."t" ADD COLUMN "v" text',
  ],
  [
    "another type",
    () => plan([id, v], localTable([int4("id"), int4("v")])),
    "column v is of type integer here and of type text at the peer",
    'ALTER TABLE "public"."t" ALTER COLUMN "v" TYPE text',
  ],
  [
    "generated here",
    () => plan([id, v], localTable([int4("id"), column("v", { generated: "s" })])),
    "column v is generated here and not at the peer",
    null,
  ],
  [
    "NOT NULL here only",
    () => plan([id], localTable([int4("id"), column("v", { notNull: true })])),
    "column v is NOT NULL here and missing at the peer",
    null,
  ],
  [
    "a user-made type of which the peer has told no name",
    () => plan([id, { name: "v", typeOid: 30_000 }], localTable([int4("id"), column("v")])),
    "column v is of type text here and of type mood at the peer",
    'ALTER TABLE "public"."t" ALTER COLUMN "v" TYPE mood',
  ],
];

for (const [what, make, problem, ddl] of mismatches) {
  test(`mismatch: ${what}`, () => {
    assert.throws(make, (error: SchemaMismatch) => {
      assert.ok(error instanceof SchemaMismatch);
      assert.equal(error.message, `Cannot apply changes of public.t: ${problem}`);
      assert.equal(error.ddl, ddl);
      return true;
    });
  });
}

const user = (oid: number, name: string) => ({ oid, schema: "public", name, hasSend: true });

test("user-made types are the same by name, not by OID; a domain by what is below it", () => {
  const local = localTable([int4("id"), column("v", { typeOid: 20_000, typeName: "mood" })]);
  const remote = [id, { name: "v", typeOid: 30_000 }];
  const remoteTypes = new Map([[30_000, { oid: 30_000, schema: "public", name: "mood" }]]);
  const mood: TypeDescription = { ...user(20_000, "mood"), kind: "enum" };
  const localTypes = new Map([...types, [20_000, mood] as const]);
  assert.equal(plan(remote, local, { remoteTypes, localTypes }).direct, true);
  const domain: TypeDescription = { ...user(20_000, "strict"), kind: "domain", base: textOid };
  const named = new Map([[30_000, { oid: 30_000, schema: "pg_catalog", name: "text" }]]);
  const made = plan(remote, local, { remoteTypes: named, localTypes: new Map([...types, [20_000, domain] as const]) });
  assert.equal(made.columns[1].stageType, '"pg_catalog"."text"');
  const other: TypeDescription = { ...user(20_000, "temper"), kind: "enum" };
  const differing = new Map([...types, [20_000, other] as const]);
  assert.throws(() => plan(remote, local, { remoteTypes, localTypes: differing }), SchemaMismatch);
});

test("which types hold OIDs that differ between the nodes", () => {
  const mood: TypeDescription = { ...user(20_000, "mood"), kind: "enum" };
  const moods: TypeDescription = { ...user(20_001, "_mood"), kind: "array", element: 20_000 };
  const ints: TypeDescription = { ...user(1007, "_int4"), kind: "array", element: int4Oid };
  const pair: TypeDescription = { ...user(20_002, "pair"), kind: "composite", fields: [{ name: "n", typeOid: 23 }] };
  const pairOfMoods: TypeDescription = { ...pair, fields: [{ name: "m", typeOid: 20_000 }] };
  const span: TypeDescription = { ...user(20_003, "span"), kind: "range", subtype: int4Oid };
  const over: TypeDescription = { ...user(20_004, "over"), kind: "domain", base: 20_001 };
  const all = new Map([...types.values(), mood, moods, ints, pair, span].map((type) => [type.oid, type]));
  const held = [mood, moods, ints, pair, pairOfMoods, span, over].map((type) => holdsUserOids(type, all));
  assert.deepEqual(held, [false, true, false, false, true, false, true]);
});

test("timestamps to the microsecond, before 2000 too", () => {
  assert.equal(timestampLiteral(0n), "'2000-01-01T00:00:00.000000+00'::timestamptz");
  assert.equal(timestampLiteral(817_171_200_123_456n), "'2025-11-23T00:00:00.123456+00'::timestamptz");
  assert.equal(timestampLiteral(817_171_199_999_999n), "'2025-11-22T23:59:59.999999+00'::timestamptz");
  assert.equal(timestampLiteral(-1n), "'1999-12-31T23:59:59.999999+00'::timestamptz");
});
