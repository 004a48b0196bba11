// Binary values that hold OIDs of user-made types get this node's; anything of another layout is a DecodeError.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { rewriteOids } from "../../agent/apply/oid_rewrite.ts";
import { DecodeError } from "../../agent/change/pgoutput.ts";
import type { TypeDescription } from "../../agent/postgres/catalog.ts";
import { baseType } from "../helpers/plans.ts";

const named = (oid: number, name: string) => ({ oid, schema: "public", name, hasSend: true });
const mood: TypeDescription = { ...named(20_000, "mood"), kind: "enum" };
const moods: TypeDescription = { ...named(20_001, "_mood"), kind: "array", element: 20_000 };
const pair: TypeDescription = {
  ...named(20_002, "pair"),
  kind: "composite",
  fields: [{ name: "n", typeOid: 23 }, { name: "m", typeOid: 20_001 }],
};
const pairs: TypeDescription = { ...named(20_003, "_pair"), kind: "array", element: 20_002 };
const span: TypeDescription = { ...named(20_004, "span"), kind: "range", subtype: 20_002 };
const spans: TypeDescription = { ...named(20_005, "spans"), kind: "multirange", subtype: 20_004 };
const strict: TypeDescription = { ...named(20_006, "strict"), kind: "domain", base: 20_001 };
const int4 = baseType(23, "int4");
const types = new Map([mood, moods, pair, pairs, span, spans, strict, int4].map((type) => [type.oid, type]));

const int = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const item = (value: Buffer | null) => value ? Buffer.concat([int(value.length), value]) : int(-1);

/** The same value as a node sends it on which user-made types have OIDs `by` higher. */
const moodsAt = (by: number, values: (string | null)[]) =>
  Buffer.concat([
    int(values.length ? 1 : 0),
    int(0),
    int(20_000 + by),
    ...(values.length ? [int(values.length), int(1)] : []),
    ...values.map((value) => item(value === null ? null : Buffer.from(value))),
  ]);
const pairAt = (by: number, n: number, values: (string | null)[]) =>
  Buffer.concat([int(2), int(23), item(int(n)), int(20_001 + by), item(moodsAt(by, values))]);
const pairsAt = (by: number, all: Buffer[]) =>
  Buffer.concat([int(1), int(0), int(20_002 + by), int(all.length), int(1), ...all.map(item)]);
const spanAt = (by: number, flags: number, bounds: number) =>
  Buffer.concat([
    Buffer.from([flags]),
    ...Array.from({ length: bounds }, (_, i) => item(pairAt(by, i, ["sad"]))),
  ]);

const cases: [what: string, type: TypeDescription, at: (by: number) => Buffer][] = [
  ["an array", moods, (by) => moodsAt(by, ["sad", null, "happy"])],
  ["an empty array", moods, (by) => moodsAt(by, [])],
  ["a composite that holds an array", pair, (by) => pairAt(by, 7, ["sad"])],
  ["an array of composites", pairs, (by) => pairsAt(by, [pairAt(by, 1, []), pairAt(by, 2, ["x"])])],
  ["a range", span, (by) => spanAt(by, 0x02, 2)],
  ["a range without lower bound", span, (by) => spanAt(by, 0x08, 1)],
  ["a range without bounds", span, (by) => spanAt(by, 0x18, 0)],
  ["an empty range", span, (by) => spanAt(by, 0x01, 0)],
  ["a multirange", spans, (by) => Buffer.concat([int(2), item(spanAt(by, 2, 2)), item(spanAt(by, 0x10, 1))])],
  ["a domain over an array", strict, (by) => moodsAt(by, ["sad"])],
  ["an enum", mood, () => Buffer.from("sad")],
];

for (const [what, type, at] of cases) {
  test(`OIDs of ${what}`, () => {
    const theirs = at(5000);
    const before = Buffer.from(theirs);
    assert.deepEqual(rewriteOids(theirs, type, types), at(0));
    assert.deepEqual(theirs, before, "the message itself stays");
  });
}

test("an array of several dimensions", () => {
  const at = (by: number) =>
    Buffer.concat([
      int(2),
      int(0),
      int(20_000 + by),
      int(2),
      int(1),
      int(1),
      int(1),
      item(Buffer.from("a")),
      item(null),
    ]);
  assert.deepEqual(rewriteOids(at(9), moods, types), at(0));
});

test("values cut short, too long or of other fields are DecodeErrors", () => {
  for (const [what, type, at] of cases) {
    if (type === mood) continue;
    const value = at(5000);
    for (let end = 0; end < value.length; end++) {
      assert.throws(() => rewriteOids(value.subarray(0, end), type, types), DecodeError, `${what} to ${end}`);
    }
    assert.throws(() => rewriteOids(Buffer.concat([value, int(0)]), type, types), DecodeError, what);
  }
  assert.throws(() => rewriteOids(Buffer.concat([int(1), int(23), item(int(1))]), pair, types), /other fields/);
});

test("mutated values are rewritten or are DecodeErrors", () => {
  const any = fc.tuple(fc.constantFrom(...cases), fc.array(fc.tuple(fc.nat(), fc.nat(3)), { maxLength: 3 }));
  fc.assert(
    fc.property(any, ([[, type, at], flips]) => {
      const value = at(5000);
      for (const [place, byte] of flips) value[place % value.length] = byte;
      try {
        assert.equal(rewriteOids(value, type, types).length, value.length);
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
});
