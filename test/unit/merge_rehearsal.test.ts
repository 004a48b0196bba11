// What a rehearsal of the merge finds, remembers while it runs, and shows; and the hold in its file. No server.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { ConflictEntry } from "../../agent/apply/conflict_log.ts";
import type { OwnChanges } from "../../agent/apply/own_changes.ts";
import { RehearsedChanges } from "../../agent/apply/rehearsed_changes.ts";
import { heldMessage, MergeHold } from "../../agent/node/merge_hold.ts";
import type { MergeState } from "../../agent/node/merge_operations.ts";
import { Findings, type Rehearsal } from "../../agent/review/rehearsed.ts";
import { renderMergeState, renderRehearsal } from "../../cli/merge_text.ts";

const entryOf = (changed: Partial<ConflictEntry> = {}): ConflictEntry => ({
  kind: "update_origin_differs",
  schema: "public",
  table: "doc",
  key: { id: "1" },
  primaryRow: { id: "1", v: "here" },
  secondaryRow: { id: "1", v: "there" },
  primaryTime: 1n,
  secondaryTime: 2n,
  primaryLsn: null,
  secondaryLsn: null,
  policy: "last_update_wins",
  winner: "secondary",
  why: "the secondary's version was written last",
  loggedBy: "primary",
  quarantined: false,
  ...changed,
});

function found(entries: readonly ConflictEntry[], secret: readonly string[] = [], most?: number): Rehearsal {
  const findings = new Findings((label) => label === "public.doc" ? secret : [], most);
  for (const entry of entries) findings.add(entry);
  return { held: true, transactions: 2, changes: 5, ...findings.result(), seconds: 0.25 };
}

test("conflicts are counted by table and kind, by who wins and what is quarantined", () => {
  const { summary, conflicts_found, left_out } = found([
    entryOf({ table: "login", kind: "insert_exists", quarantined: true }),
    entryOf(),
    entryOf({ winner: "primary" }),
    entryOf({ winner: "both" }),
    entryOf({ kind: "cannot_apply", winner: "none", quarantined: true }),
  ]);
  const none = { primary: 0, secondary: 0, both: 0, none: 0, quarantined: 0 };
  assert.deepEqual(summary, [
    { table: "public.doc", kind: "cannot_apply", conflicts: 1, ...none, none: 1, quarantined: 1 },
    { table: "public.doc", kind: "update_origin_differs", conflicts: 3, ...none, primary: 1, secondary: 1, both: 1 },
    { table: "public.login", kind: "insert_exists", conflicts: 1, ...none, secondary: 1, quarantined: 1 },
  ]);
  assert.deepEqual([conflicts_found, left_out], [5, 0]);
});

test("what is beyond the list is counted all the same", () => {
  const { conflicts_found, conflicts, summary, left_out } = found([entryOf(), entryOf(), entryOf()], [], 2);
  assert.deepEqual([conflicts_found, conflicts.length, left_out, summary[0].conflicts], [3, 2, 1, 3]);
});

test("secret values are masked in keys and reasons, and rows are not kept at all", () => {
  const rehearsal = found([
    entryOf({ key: { id: "1", pin: "hush" }, why: 'value "hush" and "louder" refused', primaryRow: { pin: "louder" } }),
    entryOf({ key: { id: "1", pin: null } }),
    entryOf({ table: "other", key: { pin: "no secret" } }),
  ], ["pin"]);
  assert.deepEqual(rehearsal.conflicts.map(({ key }) => key), [
    { id: "1", pin: "********" },
    { id: "1", pin: null },
    { pin: "no secret" },
  ]);
  assert.equal(rehearsal.conflicts[0].why, 'value "********" and "********" refused');
  assert.doesNotMatch(JSON.stringify(rehearsal) + renderRehearsal(rehearsal, 20), /hush|louder|there"/);
});

test("a rehearsal as text: what waits, a summary, and no more conflicts than asked for", () => {
  const text = renderRehearsal(found([entryOf(), entryOf({ key: { id: "2\n" }, quarantined: true })]), 20);
  assert.equal(
    text,
    `2 transactions with 5 changes are waiting to be merged.

2 conflicts:

TABLE       KIND                   CONFLICTS  PRIMARY  SECONDARY  BOTH  QUARANTINED
public.doc  update_origin_differs  2          0        2          0     1

TABLE       KEY     KIND                   WINNER     WHY
public.doc  id=1    update_origin_differs  secondary  the secondary's version was written last
public.doc  id=2\\n  update_origin_differs  secondary  the secondary's version was written last; the loser would be quarantined

Rehearsed in 0.3 s; nothing was changed. agent merge --release lets it happen.
`,
  );
  assert.match(renderRehearsal(found([entryOf(), entryOf()]), 1), /^\.\.\. and 1 more: see --limit, or --json$/m);
  const free = { ...found([]), held: false, transactions: 1, changes: 1 };
  assert.match(renderRehearsal(free, 20), /^1 transaction with 1 change is waiting.*\n\nNo conflict: /);
  assert.match(renderRehearsal(free, 20), /nothing was changed\. It happens now\.\n$/);
  assert.equal(renderRehearsal({ ...free, transactions: 0, changes: 0 }, 20), "Nothing is waiting to be merged.\n");
});

test("the state of the merge as text", () => {
  const state: MergeState = {
    role: "primary",
    held: true,
    held_since: "2026-01-01T00:00:00.000Z",
    rehearsing: false,
    peer: { name: "b.example", reachable: true },
    waiting_bytes: 2_500_000,
  };
  const of = (changed: Partial<MergeState>) => renderMergeState({ ...state, ...changed });
  assert.match(of({}), /^The merge is held since 2026-.*b\.example is applied here\.\n2\.5 MB of its WAL wait/);
  assert.match(
    of({ held: false, held_since: null, waiting_bytes: 0 }),
    /^The merge is not held.*\nNothing is waiting\.\n$/,
  );
  assert.match(of({ waiting_bytes: null }), /What is waiting is not known/);
  assert.match(of({ rehearsing: true }), /A rehearsal runs\./);
  assert.match(of({ role: "secondary", held: true }), /^The primary, b\.example, merges: it applies nothing/);
  assert.match(of({ role: "secondary", peer: { name: "a", reachable: false } }), /does not answer/);
});

test("decisions of a rehearsal count for its own later batches, and never reach the node", () => {
  const told: string[] = [];
  const own = {
    verdictUnseen: (row: string) => row === "renewed before",
    renewedTime: () => 7n,
    lastVerdict: () => null,
    renewedRows: () => ["t renewed before", "t overruled"],
    noteVerdict: (row: string) => void told.push(row),
    withdrawVerdict: (row: string) => void told.push(row),
    verdictsCommitted: () => void told.push("committed"),
  } as unknown as OwnChanges;
  const changes = new RehearsedChanges();
  const first = changes.over(own);
  assert.equal(first.verdictUnseen("renewed before", 5n), true);
  first.noteVerdict("t a", true, 3n);
  first.noteVerdict("t overruled", false, null);
  first.verdictsCommitted();
  // The next batch decides about the same row, and gives that up again: what the first said stays.
  const second = changes.over(own);
  second.noteVerdict("t a", false, null);
  assert.equal(second.verdictUnseen("t a", 5n), false);
  second.withdrawVerdict("t a");
  assert.equal(second.verdictUnseen("t a", 5n), true);
  assert.deepEqual([second.renewedTime("t a"), second.renewedTime("t overruled"), second.renewedTime("x")], [
    3n,
    null,
    7n,
  ]);
  assert.deepEqual(second.lastVerdict("t a", 5n), { renews: true, time: 3n });
  assert.deepEqual(second.renewedRows("t ", 5n).sort(), ["t a", "t renewed before"]);
  assert.deepEqual(told, []);
});

test("a hold outlives the agent; one that cannot be read holds all the same", () => {
  const folder = mkdtempSync(join(tmpdir(), "hap-"));
  const path = join(folder, "merge_hold.json");
  try {
    const hold = new MergeHold(path);
    assert.equal(hold.since, null);
    hold.hold(new Date(0));
    hold.hold(new Date(1));
    assert.equal(hold.since, "1970-01-01T00:00:00.000Z");
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(new MergeHold(path).since, hold.since);
    assert.deepEqual(JSON.parse(readFileSync(path, "utf8")), { since: hold.since });
    hold.release();
    hold.release();
    assert.equal(new MergeHold(path).since, null);
    for (const broken of ["", "{", '{"since": "yesterday"}']) {
      writeFileSync(path, broken);
      assert.match(new MergeHold(path).since!, /^\d{4}-/);
    }
    const here = { name: "a.example", state: "catching_up" as const };
    assert.match(heldMessage(here, "T"), /since T: .*, so a\.example does not serve; .*Try: agent merge --dry-run/);
    assert.doesNotMatch(heldMessage({ ...here, state: "serving" }, "T"), /does not serve/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
