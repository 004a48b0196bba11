// Which sequences cannot go on giving out values on two servers, how that is said, and what is taken of a peer's word.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePositions } from "../../agent/apply/positions.ts";
import { faultOf, type JudgedSequence, sequenceTrouble } from "../../agent/monitor/sequence_faults.ts";

const int4 = "2147483647", int8 = "9223372036854775807";

const of = (changes: Partial<JudgedSequence> = {}): JudgedSequence => ({
  label: "public.s",
  increment: "2",
  min: "1",
  max: int4,
  cycle: false,
  upcoming: "1",
  columnMax: null,
  cycleOff: false,
  tooLarge: false,
  held: false,
  ...changes,
});

test("a sequence with most of its values left is in order, whichever way it goes", () => {
  assert.equal(faultOf(of()), null);
  assert.equal(faultOf(of({ upcoming: "1900000001" })), null);
  assert.equal(faultOf(of({ max: int8, upcoming: "4000000000000000001" })), null);
  assert.equal(faultOf(of({ increment: "-2", min: `-${int8}`, max: "-1", upcoming: "-2001" })), null);
  assert.equal(faultOf(of({ max: "4", upcoming: "1" })), null, "small is not used up");
});

test("less than a tenth left, and nothing left", () => {
  assert.equal(faultOf(of({ upcoming: "1940000001" })), "nearly_used_up");
  assert.equal(faultOf(of({ max: "1000", upcoming: "901" })), null, "50 of 500");
  assert.equal(faultOf(of({ max: "1000", upcoming: "903" })), "nearly_used_up");
  assert.equal(faultOf(of({ max: "1000", upcoming: "1001" })), "used_up");
  assert.equal(faultOf(of({ max: "4", upcoming: "5" })), "used_up");
  assert.equal(faultOf(of({ increment: "-2", min: "-1000", max: "-1", upcoming: "-999" })), "nearly_used_up");
  assert.equal(faultOf(of({ increment: "-2", min: "-1000", max: "-1", upcoming: "-1001" })), "used_up");
  assert.equal(faultOf(of({ max: int8, upcoming: "9223372036854775809" })), "used_up", "beyond every bigint");
});

test("what the column takes is the end, not what its sequence could give", () => {
  assert.equal(faultOf(of({ max: int8, columnMax: int4, upcoming: "2147483001" })), "nearly_used_up");
  assert.equal(faultOf(of({ max: int8, columnMax: int4, upcoming: "2147483649" })), "used_up");
  assert.equal(faultOf(of({ max: int8, columnMax: null, upcoming: "2147483649" })), null);
});

test("cycles: too short to be split, or of few values", () => {
  assert.equal(faultOf(of({ cycle: true, max: "2", cycleOff: true })), "not_split");
  assert.equal(faultOf(of({ cycle: true, max: "100", upcoming: "101" })), "short_cycle");
  assert.equal(faultOf(of({ cycle: true, upcoming: int4 })), null, "its values come again");
});

test("what cannot be set right: an increment too large, a sequence that others hold", () => {
  assert.equal(faultOf(of({ increment: int8, tooLarge: true, held: true })), "too_large");
  assert.equal(faultOf(of({ held: true })), "held");
});

test("the alarm names five of each kind and stays the same as values go on", () => {
  assert.equal(sequenceTrouble([of(), of({ label: "b" })]), null);
  const low = [1, 2, 3, 4, 5, 6, 7].map((n) => of({ label: `public.s${n}`, max: "1000", upcoming: "951" }));
  const trouble = sequenceTrouble([...low, of({ label: "public.round", cycle: true, max: "10" })]);
  assert.match(
    trouble!.message,
    /: public\.s1, public\.s2, .*public\.s5 and 2 more \(less than a tenth .*\); public\.round \(CYCLE over fewer/,
  );
  assert.match(trouble!.remedy, /bigint.*; widen/);
  const later = sequenceTrouble([...low.map((s) => ({ ...s, upcoming: "953" })), of({ cycle: true, max: "10" })]);
  assert.equal(later!.message.split(";")[0], trouble!.message.split(";")[0]);
});

test("of what a message tells, only names and values that a sequence can have are taken, the last of each", () => {
  const told = [
    { schema: "public", name: "a", last: "7" },
    { schema: "public", name: "a", last: "-9" },
    { schema: "public", name: "b", last: "9223372036854775808" },
    { schema: "public", name: "c", last: "1; DROP" },
    { schema: "public", name: "nul\0", last: "1" },
    { schema: "public", name: "\ud800", last: "1" },
    { schema: "pub lic", name: "Größe", last: "-9223372036854775808" },
    { name: "d", last: "1" },
    null,
  ];
  assert.deepEqual(parsePositions(JSON.stringify(told)), [
    { schema: "public", name: "a", last: "-9" },
    { schema: "pub lic", name: "Größe", last: "-9223372036854775808" },
  ]);
  for (const junk of ["", "no JSON", "{}", "7", "null"]) assert.deepEqual(parsePositions(junk), []);
});
