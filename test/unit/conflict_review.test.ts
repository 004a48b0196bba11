// What `agent conflicts` decides and shows, from plain values: which version lost, what to do where the row is now, what
// is masked, how it looks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { UsageError } from "../../agent/errors.ts";
import { type ConflictEntry, conflictKinds, differences, outcomeOf } from "../../agent/review/entry.ts";
import { decide, losingVersion } from "../../agent/review/losing_version.ts";
import { listed, maskText, shown } from "../../agent/review/masking.ts";
import { renderConflict, renderList } from "../../cli/conflict_text.ts";

const entry = (changes: Partial<ConflictEntry> = {}): ConflictEntry => ({
  id: 7,
  at: "2030-01-01T00:00:00.123456Z",
  kind: "update_origin_differs",
  schema: "public",
  table: "doc",
  key: { id: "1" },
  winner: "primary",
  policy: "last_update_wins",
  why: "the primary's version was written last",
  logged_by: "primary",
  quarantined: false,
  reviewed_at: null,
  restored_at: null,
  primary_row: { id: "1", v: "ours", note: null },
  secondary_row: { id: "1", v: "theirs", note: null },
  primary_commit_at: "2029-12-31T23:59:59.000002Z",
  secondary_commit_at: "2029-12-31T23:59:59.000001Z",
  primary_lsn: null,
  secondary_lsn: "0/15",
  ...changes,
});

test("the version that lost is the other one than the winner's", () => {
  const { primary_row, secondary_row } = entry();
  assert.deepEqual(losingVersion(entry(), null), {
    side: "secondary",
    row: secondary_row,
    against: primary_row,
    overruled: true,
  });
  assert.equal(losingVersion(entry({ winner: "secondary" }), null).side, "primary");
  assert.equal(losingVersion(entry(), "secondary").side, "secondary");
  assert.equal(losingVersion(entry({ secondary_row: null }), null).row, null, "a delete");
  assert.throws(() => losingVersion(entry(), "primary"), UsageError);
});

test("where neither has lost as a whole, it must be said whose version", () => {
  const merged = entry({ winner: "both" });
  assert.throws(() => losingVersion(merged, null), (error: unknown) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.remedy, /--side primary or --side secondary/);
    return true;
  });
  assert.equal(losingVersion(merged, "primary").row?.v, "ours");
  const refused = entry({ winner: "none", quarantined: true, secondary_row: null });
  assert.equal(losingVersion(refused, null).side, "primary", "the one row that there is");
  assert.throws(() => losingVersion(entry({ winner: "none", quarantined: true }), null), UsageError);
});

const decidedAt = 1000n;
const at = (image: Record<string, string | null>, writtenAt: bigint | null = 500n) => ({ image, writtenAt });

test("a row that is as the verdict left it is written, another one is not", () => {
  const loser = losingVersion(entry(), null);
  const now = (here: Parameters<typeof decide>[1]) => decide(loser, here, ["id"], decidedAt);
  assert.deepEqual(now(at({ id: "1", v: "ours", note: null })), {
    act: { do: "update", newKey: false },
    changed: null,
  });
  // A column made since is nobody's change.
  assert.equal(now(at({ id: "1", v: "ours", note: null, fresh: "x" })).changed, null);
  assert.equal(
    now(at({ id: "1", v: "later", note: "n" })).changed,
    "its row has been changed since, in v, note",
    "names, no values",
  );
  assert.deepEqual(now(at({ id: "1", v: "theirs", note: null })).act, { do: "nothing" });
  assert.deepEqual(now(null), { act: { do: "insert" }, changed: "its row has been deleted since" });
});

test("a version that was deleted, or is a delete", () => {
  const deleted = losingVersion(entry({ primary_row: null }), null);
  assert.deepEqual(decide(deleted, null, ["id"], decidedAt), { act: { do: "insert" }, changed: null });
  assert.match(decide(deleted, at({ id: "1", v: "new" }), ["id"], decidedAt).changed!, /a row of its key again/);
  const remove = losingVersion(entry({ secondary_row: null }), null);
  assert.deepEqual(decide(remove, at({ id: "1", v: "ours" }), ["id"], decidedAt), {
    act: { do: "delete" },
    changed: null,
  });
  assert.match(decide(remove, at({ id: "1", v: "later" }), ["id"], decidedAt).changed!, /in v$/);
  assert.deepEqual(decide(remove, null, ["id"], decidedAt).act, { do: "nothing" });
});

test("a row that lost against another row, and one of which both sides' parts stand", () => {
  const blocked = losingVersion(entry({ quarantined: true, primary_row: { id: "9", v: "theirs" } }), null);
  assert.deepEqual(decide(blocked, null, ["id"], decidedAt), { act: { do: "insert" }, changed: null });
  // An update that gave way: its row stands in its former version, which is not on record.
  assert.equal(decide(blocked, at({ id: "1", v: "former" }), ["id"], decidedAt).changed, null);
  assert.match(decide(blocked, at({ id: "1", v: "x" }, 2000n), ["id"], decidedAt).changed!, /written since/);
  const merged = losingVersion(entry({ winner: "both" }), "secondary");
  assert.equal(decide(merged, at({ id: "1", v: "theirs", note: "ours" }), ["id"], decidedAt).changed, null);
  assert.match(decide(merged, at({ id: "1", v: "x" }, 2000n), ["id"], decidedAt).changed!, /written since/);
  assert.match(decide(merged, null, ["id"], decidedAt).changed!, /deleted since/);
});

test("a version of another key takes its key along", () => {
  const moved = losingVersion(entry({ secondary_row: { id: "2", v: "theirs" } }), null);
  const { act, changed } = decide(moved, at({ id: "1", v: "ours", note: null }), ["id"], decidedAt);
  assert.deepEqual(act, { do: "update", newKey: true });
  assert.equal(changed, null);
});

test("a row of a table without a key is added, unless it is there", () => {
  const kept = losingVersion(entry({ winner: "primary", primary_row: null }), null);
  assert.deepEqual(decide(kept, null, [], decidedAt), { act: { do: "insert" }, changed: null });
  assert.deepEqual(decide(kept, at(entry().secondary_row!), [], decidedAt).act, { do: "nothing" });
});

test("what became of a version, and where two differ", () => {
  assert.equal(outcomeOf(entry()), "overruled");
  assert.equal(outcomeOf(entry({ winner: "both" })), "kept");
  assert.equal(outcomeOf(entry({ quarantined: true })), "quarantined");
  assert.equal(outcomeOf(entry({ quarantined: true, reviewed_at: "x" })), "reviewed");
  assert.equal(outcomeOf(entry({ quarantined: true, reviewed_at: "x", restored_at: "x" })), "restored");
  assert.deepEqual(differences({ a: "1", b: null }, { a: "2", b: null }), ["a"]);
  assert.deepEqual(differences({ a: "1", big: "x" }, { a: "1" }), [], "a value that is not on record");
  assert.deepEqual(differences(null, { a: "1" }), ["a"]);
  assert.ok(conflictKinds.includes("exclusion_differs"));
});

test("secret values are in no listing: not in the key, nor in a reason that quotes them", () => {
  const secret = ["id", "v", "note", "none"];
  const hidden = entry({ why: "refused: (ours) is not (theirs)" });
  const line = listed(hidden, secret);
  assert.deepEqual(line.key, { id: "********" });
  assert.equal(line.why, "refused: (********) is not (********)");
  assert.ok(!("primary_row" in line));
  const view = shown(hidden, secret);
  assert.deepEqual(view.primary_row, { id: "********", v: "********", note: null });
  assert.deepEqual(view.differs, ["v"], "that they differ may be seen");
  assert.deepEqual(view.masked, ["id", "v", "note"]);
  assert.ok(!/ours|theirs/.test(JSON.stringify([line, view])));
  assert.deepEqual(shown(hidden, []), { ...hidden, differs: ["v"], masked: [] });
  assert.equal(maskText("abc ab", [{ a: "ab", b: "abc" }], ["a", "b"]), "******** ********");
});

test("the list is aligned, the same with colours, and obeyed by no terminal", () => {
  const lines = [
    listed(entry(), []),
    listed(entry({ id: 12, quarantined: true, key: { id: "\x1b[31m\n", more: null }, why: null }), []),
  ];
  const text = renderList(lines, true, false);
  const [head, first, second, , more] = text.split("\n");
  assert.match(head, /^TIME +ID {2}KIND +TABLE +KEY +WINNER +LOSER +WHY$/);
  assert.equal(first.indexOf("public.doc"), head.indexOf("TABLE"));
  assert.equal(second.indexOf("quarantined"), head.indexOf("LOSER"));
  assert.ok(second.includes("id=\\u{1b}[31m\\n more=NULL"), second);
  assert.ok(first.startsWith("2030-01-01 00:00:00.123Z  7 "), first);
  assert.match(more, /--limit/);
  assert.equal(stripVTControlCharacters(renderList(lines, true, true)), text);
  assert.equal(renderList([], false, false), "No conflicts.\n");
});

test("one conflict shows both versions side by side and marks what differs", () => {
  const text = renderConflict(shown(entry({ secondary_row: { id: "1", v: "x".repeat(100) } }), ["id"]), false);
  assert.match(text, /^ {2}conflict +7 {2}update_origin_differs {2}public\.doc\n/);
  assert.match(text, /\n\* v +ours +x{59}…\n/);
  assert.match(text, /\n {2}note +NULL +\(not on record\)\n/);
  assert.match(text, /\n {2}id +\*{8} +\*{8}\n/);
  assert.match(text, /\n {2}LSN +- +0\/15\n/);
  assert.match(text, /not shown: id \(see --reveal\)\n$/);
  const gone = renderConflict(shown(entry({ primary_row: null, key: null }), []), true);
  assert.match(stripVTControlCharacters(gone), /\n {2}row +\(no row\) +\(row\)\n/);
});
