// Questions of the secondary's: what is left until the answer comes, what the answer says, what a verdict does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { answer } from "../../agent/merge/answers.ts";
import { carryOut, makeRoom } from "../../agent/merge/carry_out.ts";
import { mergeColumns } from "../../agent/merge/columns.ts";
import { Questions } from "../../agent/merge/questions.ts";
import { Renewals } from "../../agent/merge/renewals.ts";

test("a question is open until a change that has seen it", () => {
  const questions = new Questions();
  assert.equal(questions.isOpen("a", 0n), false);
  questions.ask("a");
  assert.equal(questions.undecided, true);
  questions.committed();
  assert.equal(questions.isOpen("a", 10n ** 15n), true, "its position is not known yet");
  questions.note("a", 500n);
  assert.equal(questions.isOpen("a", 499n), true);
  assert.equal(questions.isOpen("a", 500n), false);
  assert.equal(questions.answered, false);
  questions.prune(500n);
  assert.equal(questions.isOpen("a", 0n), false);
  assert.equal(questions.answered, true);
});

test("a question that was taken back or rolled back is not open", () => {
  const questions = new Questions();
  questions.ask("a");
  questions.withdraw("a");
  questions.ask("b");
  questions.rolledBack();
  for (const row of ["a", "b"]) assert.equal(questions.isOpen(row, 0n), false);
});

test("an answer renews the primary's own version, and what was renewed already", () => {
  const nothing = { renews: false, time: null };
  const merged = { renews: true, time: 5n };
  assert.deepEqual(answer(null, merged, merged), nothing);
  assert.deepEqual(answer({ own: true }, merged, nothing), { renews: true, time: null });
  assert.deepEqual(answer({ own: false }, merged, null), merged, "the verdict that could not be carried out");
  assert.deepEqual(answer({ own: false }, merged, nothing), nothing, "a later verdict counts");
  assert.deepEqual(answer({ own: false }, nothing, merged), merged);
});

test("the last verdict about a row, renewing or not, until it is seen", () => {
  const renewals = new Renewals();
  assert.equal(renewals.lastUnseen("a", 0n), null);
  renewals.decide("a", false);
  assert.equal(renewals.lastUnseen("a", 0n)?.renews, false);
  renewals.committed();
  renewals.note("a", false, 100n);
  assert.equal(renewals.lastUnseen("a", 99n)?.renews, false);
  assert.equal(renewals.lastUnseen("a", 100n), null);
  renewals.note("a", true, 200n, 7n);
  assert.deepEqual([renewals.lastUnseen("a", 150n)?.renews, renewals.lastUnseen("a", 150n)?.time], [true, 7n]);
  renewals.prune(200n);
  assert.equal(renewals.lastUnseen("a", 0n), null);
});

test("a verdict spares a pending version, and writes what is to be", () => {
  const rows = [[true, false], [true, true], [false, false], [false, true]] as const;
  const acts = (gone: boolean) => rows.map(([present, pending]) => carryOut({ present, pending }, gone));
  assert.deepEqual(acts(false), ["update", "skip", "insert", "skip"]);
  assert.deepEqual(acts(true), ["delete", "skip", "skip", "skip"]);
});

test("what is in the way of a verdict goes, unless it is pending", () => {
  const inTheWay = [{ row: "b", pending: false }, { row: "c", pending: false }];
  assert.deepEqual(makeRoom("a", inTheWay), { write: true, remove: ["b", "c"], ask: ["b", "c"] });
  assert.deepEqual(makeRoom("a", [...inTheWay, { row: "d", pending: true }]), { write: false, remove: [], ask: ["a"] });
});

const [earlier, later] = [{ primaryTime: 5n, secondaryTime: 4n }, { primaryTime: 4n, secondaryTime: 5n }];
const base = { k: "1", a: "a0", b: "b0" };

test("columns changed on one side only are kept from that side", () => {
  for (const times of [earlier, later]) {
    const { image, kept } = mergeColumns(base, { ...base, a: "a1" }, { ...base, b: "b2" }, times);
    assert.deepEqual([image, kept], [{ k: "1", a: "a1", b: "b2" }, "both"]);
  }
});

test("of a column changed on both sides the later value stays, the primary's at the same time", () => {
  const merge = (times: typeof earlier) => mergeColumns(base, { ...base, a: "a1" }, { ...base, a: "a2" }, times);
  assert.deepEqual([merge(later).image.a, merge(later).kept], ["a1", "secondary"]);
  assert.deepEqual([merge(earlier).image.a, merge(earlier).kept], ["a2", "primary"]);
  assert.equal(merge({ primaryTime: 5n, secondaryTime: 5n }).image.a, "a2");
  assert.match(merge(later).why, /changed on both: a/);
});

test("a large value that the update left alone counts as unchanged; NULL is a value", () => {
  const here = { ...base, b: null };
  assert.deepEqual(mergeColumns(base, { k: "1", a: "a1" }, here, earlier).image, { k: "1", a: "a1", b: null });
  assert.deepEqual(mergeColumns({ ...base, b: null }, base, here, earlier).image.b, "b0");
});
