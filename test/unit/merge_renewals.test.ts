// A renewed version counts as written at its verdict, however the applier's word and the stream's follow upon each other.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Renewals } from "../../agent/merge/renewals.ts";

const far = 10n ** 15n;

/** A verdict of the applier's whose transaction commits. */
function written(renewals: Renewals, row: string, renews: boolean): void {
  renewals.decide(row, renews);
  renewals.committed();
}

test("a renewal counts from its position on, and for all until that is known", () => {
  const renewals = new Renewals();
  assert.equal(renewals.isUnseen("a", 0n), false);
  written(renewals, "a", true);
  assert.equal(renewals.isUnseen("a", far), true);
  assert.equal(renewals.isUnseen("b", 0n), false);
  renewals.note("a", true, 500n);
  assert.equal(renewals.isUnseen("a", 499n), true);
  assert.equal(renewals.isUnseen("a", 500n), false);
  renewals.prune(499n);
  assert.equal(renewals.isUnseen("a", 0n), true);
  renewals.prune(500n);
  assert.equal(renewals.isUnseen("a", 0n), false);
});

test("a verdict for the secondary ends a renewal", () => {
  const renewals = new Renewals();
  renewals.note("a", true, 500n);
  renewals.note("a", false, 600n);
  assert.equal(renewals.isUnseen("a", 0n), false);
  renewals.note("a", true, 700n);
  written(renewals, "a", false);
  assert.equal(renewals.isUnseen("a", 0n), false);
});

test("a stream that lags behind does not undo what was decided since", () => {
  const renewals = new Renewals();
  written(renewals, "a", true);
  written(renewals, "a", false);
  written(renewals, "a", true);
  for (const [renews, lsn] of [[true, 100n], [false, 200n]] as const) {
    renewals.note("a", renews, lsn);
    assert.equal(renewals.isUnseen("a", far), true);
  }
  renewals.note("a", true, 300n);
  assert.equal(renewals.isUnseen("a", 299n), true);
  assert.equal(renewals.isUnseen("a", 300n), false);
});

test("verdicts that a new session brings once more change nothing", () => {
  const renewals = new Renewals();
  renewals.note("a", true, 100n);
  renewals.note("b", true, 100n);
  renewals.note("a", true, 200n);
  written(renewals, "b", false);
  for (const [row, lsn] of [["a", 100n], ["b", 100n], ["a", 200n]] as const) {
    renewals.note(row, true, lsn);
    assert.equal(renewals.isUnseen("a", 150n), true);
    assert.equal(renewals.isUnseen("b", 0n), false);
  }
});

test("the last word of a transaction is the one that is sent", () => {
  const renewals = new Renewals();
  renewals.decide("a", true);
  renewals.decide("a", false);
  renewals.committed();
  renewals.note("a", false, 100n);
  written(renewals, "a", true);
  assert.equal(renewals.isUnseen("a", far), true);
});

test("a transaction that was given up leaves what was known before", () => {
  const renewals = new Renewals();
  renewals.note("a", true, 100n);
  written(renewals, "b", true);
  for (const row of ["a", "b", "c"]) renewals.decide(row, row === "c");
  assert.equal(renewals.undecided, true);
  renewals.rolledBack();
  assert.equal(renewals.undecided, false);
  assert.equal(renewals.isUnseen("a", 99n), true);
  assert.equal(renewals.isUnseen("b", far), true);
  assert.equal(renewals.isUnseen("c", 0n), false);
});

test("a commit whose answer was lost is told by the stream", () => {
  const renewals = new Renewals();
  renewals.decide("a", true);
  renewals.note("a", true, 100n);
  renewals.rolledBack();
  assert.equal(renewals.isUnseen("a", 99n), true);
  assert.equal(renewals.isUnseen("a", 100n), false);
});
