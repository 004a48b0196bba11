// What the peer gets of this node's WAL: own transactions as they are, its own as `seen` in their place, nothing of hapair's.
import assert from "node:assert/strict";
import type { Buffer } from "node:buffer";
import { test } from "node:test";
import { FrameReader } from "../../agent/change/frames.ts";
import type { Lsn } from "../../agent/change/lsn.ts";
import { DecodeError } from "../../agent/change/pgoutput.ts";
import { rowName } from "../../agent/change/row_key.ts";
import { Filter, type KeysOf, type Notes, UnknownKey } from "../../agent/relay/filter.ts";
import { RowKeys } from "../../agent/relay/row_keys.ts";
import * as make from "../helpers/messages.ts";

const user = 1, state = 2, conflict = 3;
const described = [
  make.relation(user, "public", "t", [{ name: "id", key: true }, { name: "v" }]),
  make.relation(state, "ha", "sequence", [{ name: "id", key: true }]),
  make.relation(conflict, "ha", "conflict", [{ name: "id", key: true }, { name: "logged_by" }]),
];
const noKeys: KeysOf = () => undefined;
const ignored: Notes = {
  commit() {},
  delete() {},
  truncate() {},
  verdict() {},
  question() {},
  mark() {},
  position() {},
};

/** Both ways for a row to come, as a frame and without one, do the same. */
function run(messages: Buffer[], options: { after?: Lsn | null; deletes?: boolean } = {}) {
  const result = runOneWay(messages, options, false);
  const { sent, noted } = runOneWay(messages, options, true);
  assert.deepEqual({ sent, noted }, { sent: result.sent, noted: result.noted });
  return result;
}

/** Runs messages through a filter of the primary; tells in words what it passed on and what it noted. */
function runOneWay(
  messages: Buffer[],
  { after = 0n, deletes = true }: { after?: Lsn | null; deletes?: boolean },
  takesRows: boolean,
) {
  const sent: string[] = [];
  const noted: string[] = [];
  const names = new Map(messages.map((message) => [message.toString("hex"), message]));
  const send = (bytes: Buffer, start: number, end: number) => {
    for (const frame of new FrameReader().read(bytes.subarray(start, end))) {
      if (frame.type === "seen") sent.push(`seen ${frame.seen} at ${frame.position}${frame.idle ? " idle" : ""}`);
      else if (frame.type === "position") sent.push(`position ${frame.position}`);
      else if (frame.type === "change") {
        assert.ok(names.has(frame.message.toString("hex")), "passed on as it is");
        sent.push(String.fromCharCode(frame.message[0]));
      }
    }
  };
  const filter = new Filter(
    after,
    send,
    {
      commit: (xid, lsn, time) => noted.push(`commit ${xid} ${lsn} ${time}`),
      delete: (row, lsn) => noted.push(`delete ${row.split("\0")[1]} ${lsn}`),
      truncate: (schema, table, lsn, time) => noted.push(`truncate ${schema}.${table} ${lsn} ${time}`),
      verdict: (content, lsn) => noted.push(`verdict ${content} ${lsn}`),
      question: (content, lsn) => noted.push(`question ${content} ${lsn}`),
      mark: (content) => noted.push(`mark ${content}`),
      position: (lsn, seen) => noted.push(`position ${lsn}${seen ? " seen" : ""}`),
    },
    deletes,
    "primary",
    noKeys,
  );
  for (const message of messages) {
    const { chunk, start, end, tag } = make.frameOf(message);
    if (takesRows && "IUD".includes(String.fromCharCode(tag))) filter.takeRow(chunk, start, end);
    else filter.change(make.frameOf(message));
  }
  return { sent: sent.join(" | "), noted: noted.join(" | "), filter };
}

const own = (lsn: bigint, xid: number, ...changes: Buffer[]) => [
  make.begin(lsn, xid, lsn * 10n),
  ...changes,
  make.commit(lsn, lsn + 5n, lsn * 10n),
];
const ofPeer = (lsn: bigint, peerLsn: bigint, ...changes: Buffer[]) => [
  make.begin(lsn, 900, 0n),
  make.origin(peerLsn, "ha_peer"),
  ...changes,
  make.commit(lsn, lsn + 5n),
];
const row = make.insert(user, ["1", "x"]);

test("an own transaction is passed on as it is and noted by its xid, end and time", () => {
  const { sent, noted } = run([...own(100n, 7, described[0], row)]);
  assert.equal(sent, "R | B | I | C");
  assert.equal(noted, "commit 7 105 1000 | position 105");
});

test("the peer's transactions become seen frames, in the order of commits", () => {
  const { sent, noted } = run([
    ...own(100n, 7, described[0], row),
    ...ofPeer(200n, 55n, row, make.update(user, ["1", "y"])),
    ...own(300n, 8, row),
    ...ofPeer(400n, 66n, row),
  ]);
  assert.equal(sent, "R | B | I | C | seen 55 at 200 | B | I | C | seen 66 at 400");
  assert.equal(
    noted,
    "commit 7 105 1000 | position 105 | position 205 seen | commit 8 305 3000 | position 305 | position 405 seen",
  );
});

test("a transaction of another origin is an own one", () => {
  const messages = [make.begin(100n, 7), make.origin(5n, "other"), described[0], row, make.commit(100n, 105n)];
  assert.equal(run(messages).sent, "R | B | I | C");
});

test("idle progress of the applier is a seen frame that wants no answer", () => {
  const { sent, noted } = run(ofPeer(200n, 55n, make.message("ha_idle", "")));
  assert.equal(sent, "seen 55 at 200 idle");
  assert.equal(noted, "position 205");
  assert.equal(
    run([...ofPeer(200n, 55n, make.message("ha_idle", "")), ...ofPeer(300n, 56n)]).sent,
    "seen 55 at 200 idle | seen 56 at 300",
  );
});

test("relation and type messages within transactions that are dropped are passed on", () => {
  const { sent } = run([
    ...ofPeer(200n, 55n, make.type(20000, "public", "mood"), described[0], row),
    ...own(300n, 8, row),
  ]);
  assert.equal(sent, "Y | R | seen 55 at 200 | B | I | C");
  const before = run([...own(100n, 7, described[0], row), ...own(300n, 8, row)], { after: 200n });
  assert.equal(before.sent, "R | B | I | C");
});

test("after: what the peer has is noted, not sent; a commit record that starts there is sent", () => {
  const messages = [...own(100n, 7, row), ...ofPeer(150n, 50n), ...own(200n, 8, row), ...ofPeer(250n, 51n)];
  assert.equal(run([described[0], ...messages], { after: 200n }).sent, "R | B | I | C | seen 51 at 250");
  assert.equal(run([described[0], ...messages], { after: 201n }).sent, "R | seen 51 at 250");
  const { sent, noted } = run([described[0], ...messages], { after: null });
  assert.equal(sent, "");
  assert.match(noted, /commit 7 105.*commit 8 205/);
});

test("what hapair writes for this node alone is dropped, alone and among the application's changes", () => {
  const internal = make.insert(state, ["5"]);
  const alone = run([described[0], described[1], ...own(100n, 7, internal)]);
  assert.equal(alone.sent, "R | R");
  assert.equal(alone.noted, "position 105");
  assert.equal(run([...described, ...own(100n, 7, internal, row)]).sent, "R | R | R | B | I | C");
  assert.equal(run([...described, ...own(100n, 7, row, internal)]).sent, "R | R | R | B | I | C");
  assert.equal(
    run([...described, ...own(100n, 7, row, make.remove(state, ["5"]))]).noted,
    "commit 7 105 1000 | position 105",
  );
});

test("an entry of the conflict log and a verdict go to the peer, behind the seen of their transaction", () => {
  const entry = make.insert(conflict, ["1", "primary"]);
  const verdict = make.message("ha_verdict", "{1}");
  const { sent, noted } = run([
    ...described,
    ...ofPeer(200n, 55n, row, entry, row, verdict, make.message("ha_verdict", "{2}")),
  ]);
  assert.equal(sent, "R | R | R | seen 55 at 200 | B | I | M | M | C");
  assert.equal(noted, "verdict {1} 205 | verdict {2} 205 | position 205 seen");
});

test("an entry that the peer logged does not go back to it", () => {
  const { sent } = run([...described, ...ofPeer(200n, 55n, make.insert(conflict, ["1", "secondary"]))]);
  assert.equal(sent, "R | R | R | seen 55 at 200");
});

test("verdicts that the peer has are noted all the same", () => {
  const { sent, noted } = run(ofPeer(200n, 55n, make.message("ha_verdict", "{1}")), { after: 300n });
  assert.equal(sent, "");
  assert.equal(noted, "verdict {1} 205 | position 205 seen");
});

test("a question goes to the peer as a verdict does, and is noted", () => {
  const { sent, noted } = run(ofPeer(200n, 55n, make.message("ha_ask", "[1]")));
  assert.equal(sent, "seen 55 at 200 | B | M | C");
  assert.equal(noted, "question [1] 205 | position 205 seen");
});

test("a verdict counts only in a transaction of the applier's", () => {
  const { sent, noted } = run(own(200n, 7, make.message("ha_verdict", "{1}")));
  assert.equal(sent + noted, "position 205");
});

test("deletes and key changes are noted by the row's name; not if the peer writes nothing", () => {
  const messages = [
    described[0],
    ...own(
      100n,
      7,
      make.remove(user, ["1", null]),
      make.update(user, ["3", "x"], ["2", null]),
      make.update(user, ["3", "y"]),
    ),
  ];
  assert.equal(run(messages).noted, "commit 7 105 1000 | delete t 105 | delete t 105 | position 105");
  assert.equal(run(messages, { deletes: false }).noted, "commit 7 105 1000 | position 105");
  assert.equal(run([described[0], ...ofPeer(100n, 5n, make.remove(user, ["1", null]))]).noted, "position 105 seen");
  assert.match(run(messages, { after: null }).noted, /delete t 105/);
});

test("a delete's name is the row's key alone", () => {
  const names: string[] = [];
  const notes = { ...ignored, delete: (name: string) => void names.push(name) };
  const filter = new Filter(0n, () => {}, notes, true, "primary", noKeys);
  for (const message of [described[0], ...own(100n, 7, make.remove(user, ["1", "x"], "O"))]) {
    filter.change(make.frameOf(message));
  }
  assert.deepEqual(names, [rowName("public", "t", "\0\0\0\u00011")]);
});

const full = 4;
const fullColumns = [{ name: "a", key: true }, { name: "id", key: true }, { name: "b", key: true }];
const describedFull = make.relation(full, "public", "f", fullColumns, "f");

/** The names of the rows that an own transaction deletes in a table of REPLICA IDENTITY FULL whose key is (id, b). */
function deletedInFull(change: Buffer, keysOf: KeysOf = () => ["b", "id"]): string[] {
  const names: string[] = [];
  const notes = { ...ignored, delete: (name: string) => void names.push(name) };
  const filter = new Filter(0n, () => {}, notes, true, "primary", keysOf);
  for (const message of [describedFull, ...own(100n, 7, change)]) filter.change(make.frameOf(message));
  return names;
}

test("a delete's name where the stream gives rows whole: the primary key of the catalog, in the order of columns", () => {
  const name = rowName("public", "f", "\0\0\0\u00011\0\0\0\u0001x");
  assert.deepEqual(deletedInFull(make.remove(full, ["v", "1", "x"], "O")), [name]);
  assert.deepEqual(deletedInFull(make.remove(full, [null, "1", "x"], "O")), [name]);
});

test("with rows given whole an update is a delete only if it changes the key", () => {
  const name = rowName("public", "f", "\0\0\0\u00011\0\0\0\u0001x");
  const cases: [what: string, row: make.Value[], deletes: string[]][] = [
    ["nothing", ["v", "1", "x"], []],
    ["another column", ["w", "1", "x"], []],
    ["a large value that the change left alone", ["w", "1", undefined], []],
    ["one of the key's columns", ["v", "1", "y"], [name]],
    ["the other one", ["v", "22", "x"], [name]],
  ];
  for (const [what, row, deletes] of cases) {
    assert.deepEqual(deletedInFull(make.update(full, row, ["v", "1", "x"], "O")), deletes, what);
  }
});

test("rows without a key have no name", () => {
  assert.deepEqual(deletedInFull(make.remove(full, ["v", "1", "x"], "O"), () => null), []);
  assert.deepEqual(deletedInFull(make.update(full, ["v", "1", "x"], ["v", "2", "x"], "O"), () => null), []);
});

test("a table whose key is not known ends the session, but only where it matters", () => {
  const removal = make.remove(full, ["v", "1", "x"], "O");
  assert.throws(() => run([describedFull, ...own(100n, 7, removal)]), (error) => {
    assert.ok(error instanceof UnknownKey);
    assert.deepEqual([error.schema, error.table], ["public", "f"]);
    return true;
  });
  run([describedFull, ...own(100n, 7, removal)], { deletes: false });
  run([describedFull, ...own(100n, 7, make.insert(full, ["v", "1", "x"]))]);
  run([describedFull, ...ofPeer(100n, 7n, removal)]);
});

test("keys that were missed are there after a refresh, or never", async () => {
  let catalog = new Map<string, string[]>([["public\0bare", []]]);
  const keys = new RowKeys(() => Promise.resolve(catalog));
  assert.equal(keys.of("public", "f"), undefined);
  await keys.refresh();
  assert.equal(keys.of("public", "bare"), null);
  keys.miss(new UnknownKey("public", "f"));
  keys.miss(new UnknownKey("public", "gone"));
  assert.equal(keys.of("public", "g"), undefined);
  catalog = new Map([["public\0f", ["id"]]]);
  await keys.refresh();
  assert.deepEqual(keys.of("public", "f"), ["id"]);
  assert.equal(keys.of("public", "gone"), null);
  catalog = new Map([["public\0gone", ["id"]]]);
  await keys.refresh();
  assert.deepEqual(keys.of("public", "gone"), ["id"], "made anew");
  assert.equal(keys.of("public", "f"), undefined, "dropped since: it may be made anew");
});

test("a truncate is noted for each of its tables, if the peer may write", () => {
  const messages = [described[0], describedFull, ...own(100n, 7, make.truncate([user, full]))];
  const noted = "commit 7 105 1000 | truncate public.t 105 1000 | truncate public.f 105 1000 | position 105";
  assert.equal(run(messages).noted, noted);
  assert.equal(run(messages, { after: null }).noted, noted);
  assert.equal(run(messages, { deletes: false }).noted, "commit 7 105 1000 | position 105");
  assert.equal(run([described[0], ...ofPeer(100n, 5n, make.truncate([user]))]).noted, "position 105 seen");
  assert.equal(
    run([described[0], ...own(100n, 7, make.truncate([user])), ...own(200n, 8, row)]).noted,
    "commit 7 105 1000 | truncate public.t 105 1000 | position 105 | commit 8 205 2000 | position 205",
  );
});

test("marks are noted and not sent; a fence is an empty transaction for the peer", () => {
  const mark = run(own(100n, 7, make.message("ha_mark", "m1")));
  assert.equal(mark.sent, "");
  assert.equal(mark.noted, "mark m1 | position 105");
  const fence = run(own(100n, 7, make.message("ha_fence", "")));
  assert.equal(fence.sent, "B | M | C");
  assert.equal(fence.noted, "commit 7 105 1000 | position 105");
  assert.equal(run(own(100n, 7, make.message("other", "x"))).sent, "");
});

test("a truncate is a change", () => {
  assert.equal(run([described[0], ...own(100n, 7, make.truncate([user]))]).sent, "R | B | T | C");
});

test("a keepalive tells the position, but not from within a transaction", () => {
  const { filter } = run([make.begin(100n, 7)]);
  filter.keepalive(500n);
  const frames: Buffer[] = [];
  const send = (bytes: Buffer, start: number, end: number) => void frames.push(bytes.subarray(start, end));
  new Filter(0n, send, ignored, true, "primary", noKeys).keepalive(500n);
  assert.equal(frames.length, 1);
  new Filter(null, send, ignored, true, "primary", noKeys).keepalive(500n);
  assert.equal(frames.length, 1);
});

test("messages out of place are DecodeErrors", () => {
  assert.throws(() => run([row]), DecodeError);
  assert.throws(() => run([make.commit(1n, 2n)]), DecodeError);
  assert.throws(() => run([make.origin(1n, "ha_peer")]), DecodeError);
  assert.throws(() => run([make.begin(1n, 1), described[0], row, make.origin(1n, "ha_peer")]), DecodeError);
});

test("what is told of sequences is passed on in place, and is no transaction that waits", () => {
  const told = make.message("ha_sequences", "[]");
  const { sent, noted } = run([described[0], ...own(100n, 7, told), ...own(200n, 8, row)]);
  assert.equal(sent, "R | B | M | C | B | I | C");
  assert.equal(noted, "position 105 | commit 8 205 2000 | position 205");
  // Of an application that writes such a message itself, what else it did counts.
  assert.equal(run([described[0], ...own(100n, 7, told, row)]).noted, "commit 7 105 1000 | position 105");
  assert.equal(run([described[0], ...own(100n, 7, row, told)]).noted, "commit 7 105 1000 | position 105");
  assert.equal(run(ofPeer(200n, 55n, told)).sent, "seen 55 at 200");
  assert.equal(run([described[0], ...own(100n, 7, told)], { after: 200n }).sent, "R");
});
