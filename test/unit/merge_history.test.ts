// What is known of own transactions: unseen exactly where the log says so, whatever is pruned and read again.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { rowName } from "../../agent/change/row_key.ts";
import { History, parseSnapshot, type Snapshot } from "../../agent/merge/history.ts";

const snapshot = (xmin: number, xmax = xmin, running: number[] = [], takenAt = 0n): Snapshot => ({
  xmin,
  xmax,
  running: new Set(running),
  takenAt,
});

test("a snapshot's text", () => {
  assert.deepEqual(parseSnapshot("100:100:", 5n), snapshot(100, 100, [], 5n));
  assert.deepEqual(parseSnapshot("100:104:100,102", 5n), snapshot(100, 104, [100, 102], 5n));
  assert.equal(parseSnapshot("8589934592:8589934600:", 0n).xmax, 8589934600);
});

const writers: [what: string, xid: number, commitTime: bigint, seen: bigint, unseen: boolean][] = [
  ["noted, beyond seen", 110, 1000n, 499n, true],
  ["noted, seen just so", 110, 1000n, 500n, false],
  ["older than the snapshot, never noted", 90, 10n, 0n, false],
  ["committed before the snapshot, never noted", 103, 10n, 0n, false],
  ["running when the snapshot was taken", 102, 60n, 400n, true],
  ["begun after the snapshot", 200, 60n, 400n, true],
  ["a subtransaction of a noted one, beyond seen", 111, 1000n, 499n, true],
  ["a subtransaction of a noted one, seen", 111, 1000n, 500n, false],
  ["a subtransaction committed after the snapshot, not noted yet", 103, 60n, 400n, true],
];

for (const [what, xid, commitTime, seen, unseen] of writers) {
  test(`unseen: ${what}`, () => {
    const history = new History(snapshot(100, 105, [102], 50n));
    history.noteCommit(110, 500n, 1000n);
    assert.equal(history.isUnseen({ xid, commitTime }, seen), unseen);
  });
}

test("xids of 32 bits are taken for those nearest to the snapshot, on either side of a wrap", () => {
  const wrap = 2 ** 32;
  const history = new History(snapshot(wrap + 10));
  history.noteCommit(20, 500n, 1000n); // full: wrap + 20
  history.noteCommit(wrap - 5, 400n, 900n);
  assert.equal(history.isUnseen({ xid: 20, commitTime: 1000n }, 450n), true);
  assert.equal(history.isUnseen({ xid: wrap - 5, commitTime: 900n }, 450n), false);
  assert.equal(history.isUnseen({ xid: wrap - 5, commitTime: 900n }, 399n), true);
});

test("a subtransaction is found though no other transaction has an xid near to it", () => {
  const history = new History(snapshot(10));
  history.noteCommit(4000, 500n, 1000n); // its subtransactions go on for chunks of xids
  history.renewSnapshot(snapshot(50_000, 50_000, [], 2000n));
  for (const xid of [4001, 4097, 9000, 30_000]) {
    assert.equal(history.isUnseen({ xid, commitTime: 1000n }, 499n), true, String(xid));
    assert.equal(history.isUnseen({ xid, commitTime: 1000n }, 500n), false, String(xid));
  }
});

test("of two that committed in the same microsecond the unseen one counts for their subtransactions", () => {
  for (const [first, second] of [[400n, 500n], [500n, 400n]]) {
    const history = new History(snapshot(10));
    history.noteCommit(20, first, 1000n);
    history.noteCommit(21, second, 1000n);
    assert.equal(history.isUnseen({ xid: 22, commitTime: 1000n }, 450n), true);
  }
});

interface Own {
  xid: number;
  sub: number | null;
  lsn: bigint;
  time: bigint;
}

/** Transactions in the order of their commits: xids out of order, chunks of xids skipped, some with a subtransaction. */
const histories = fc.array(
  fc.record({
    gap: fc.oneof(fc.nat(3), fc.nat(10_000)),
    sub: fc.option(fc.oneof(fc.nat(3), fc.nat(10_000))),
    late: fc.nat(5),
    time: fc.nat(3),
    lsn: fc.integer({ min: 1, max: 100 }),
  }),
  { minLength: 1, maxLength: 40 },
).map((steps) => {
  let xid = 100;
  const begun = steps.map(({ gap, sub, late }, at) => {
    const own = xid += gap + 1;
    if (sub !== null) xid += sub + 1;
    return { xid: own, sub: sub === null ? null : xid, commitAt: at + late, at };
  });
  begun.sort((a, b) => a.commitAt - b.commitAt || a.at - b.at);
  let lsn = 1000n;
  let time = 10_000n;
  return begun.map(({ xid, sub }, at): Own => {
    lsn += BigInt(steps[at].lsn);
    time += BigInt(steps[at].time) + 1n;
    return { xid, sub, lsn, time };
  });
});

/** A snapshot taken when the first `count` transactions had committed. */
function snapshotAfter(all: readonly Own[], count: number): Snapshot {
  const committed = all.slice(0, count);
  const xmax = Math.max(100, ...committed.map((own) => Math.max(own.xid, own.sub ?? 0))) + 1;
  const running = all.slice(count).map((own) => own.xid).filter((xid) => xid < xmax);
  return snapshot(Math.min(xmax, ...running), xmax, running, committed.at(-1)?.time ?? 9_999n);
}

/** Every row version that may be in the tables when the first `count` have committed. */
const versionsOf = (all: readonly Own[], count: number) =>
  all.slice(0, count).flatMap((own) =>
    [own.xid, ...(own.sub === null ? [] : [own.sub])].map((xid) => ({ own, writer: { xid, commitTime: own.time } }))
  );

test("unseen is what the log says: restart, notes that lag behind, snapshots and pruning change no answer", () => {
  fc.assert(
    fc.property(
      histories,
      fc.nat(40),
      fc.array(fc.record({ note: fc.nat(10), snapshot: fc.boolean(), seen: fc.nat(20), again: fc.nat(8) })),
      (all, before, turns) => {
        // The agent starts when `before` have committed; the slot is confirmed up to nothing.
        let committed = Math.min(before, all.length);
        const history = new History(snapshotAfter(all, committed));
        let noted = 0;
        let seen = 0n;
        const note = (to: number) => {
          for (const own of all.slice(noted, to)) history.noteCommit(own.xid, own.lsn, own.time);
          noted = Math.max(noted, to);
        };
        note(committed); // nothing is asked before
        const check = () => {
          // The peer has seen nothing that was not noted, which is done as it is sent.
          const sent = all[noted - 1]?.lsn ?? 0n;
          const later = seen + 50n < sent ? seen + 50n : sent > seen ? sent : seen;
          for (const { own, writer } of versionsOf(all, committed)) {
            assert.equal(history.isUnseen(writer, seen), own.lsn > seen, `xid ${writer.xid} of ${own.xid}`);
            assert.equal(history.isUnseen(writer, later), own.lsn > later, `later: xid ${writer.xid}`);
          }
        };
        check();
        for (const turn of turns) {
          committed = Math.min(all.length, committed + turn.note);
          check(); // committed and not noted yet
          note(turn.snapshot ? committed : Math.min(committed, noted + (turn.note >> 1)));
          if (turn.snapshot) history.renewSnapshot(snapshotAfter(all, committed));
          check();
          const told = all[Math.min(noted, turn.seen) - 1]?.lsn ?? 0n;
          if (told > seen) seen = told;
          history.prune(seen);
          check();
          // A session that begins anew notes some once more.
          for (const own of all.slice(Math.max(0, noted - turn.again), noted)) {
            if (own.lsn > seen) history.noteCommit(own.xid, own.lsn, own.time);
          }
          check();
          const waiting = all.slice(0, noted).filter((own) => own.lsn > seen);
          const pending = history.pending();
          assert.deepEqual(pending, { transactions: waiting.length, oldest: waiting[0]?.time ?? null });
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("deletes: the last one counts, what the peer has seen is forgotten", () => {
  const history = new History(snapshot(10));
  history.noteDelete("a", 100n, 1n);
  history.noteDelete("b", 200n, 2n);
  history.noteDelete("a", 300n, 3n);
  assert.equal(history.deletedUnseen("a", 299n), 3n);
  assert.equal(history.deletedUnseen("a", 300n), null);
  assert.equal(history.deletedUnseen("b", 100n), 2n);
  assert.equal(history.deletedUnseen("c", 0n), null);
  history.prune(200n);
  assert.equal(history.deletedUnseen("b", 0n), null);
  assert.equal(history.deletedUnseen("a", 200n), 3n);
});

test("a truncate deletes every row of its table and of no other; of several deletes the later time counts", () => {
  const history = new History(snapshot(10));
  const row = rowName("public", "t", "\0\0\0\u0004\0\0\0\0");
  const others = [rowName("public", "t2", "k"), rowName("publi", "ct", "k"), rowName("t", "public", "k")];
  history.noteDelete(row, 100n, 5n);
  assert.equal(history.deletedUnseen(row, 0n), 5n);
  history.noteTruncate("public", "t", 200n, 7n);
  assert.equal(history.deletedUnseen(row, 0n), 7n);
  assert.equal(history.deletedUnseen(row, 150n), 7n, "the delete was seen, the truncate not");
  assert.equal(history.deletedUnseen(row, 200n), null);
  assert.equal(history.deletedUnseen(rowName("public", "t", "never noted"), 199n), 7n);
  for (const other of others) assert.equal(history.deletedUnseen(other, 0n), null);
  history.noteDelete(row, 300n, 6n);
  assert.equal(history.deletedUnseen(row, 0n), 7n, "clocks go back: the later time");
  assert.equal(history.deletedUnseen(row, 250n), 6n);
  history.noteDelete(row, 400n, 9n);
  assert.equal(history.deletedUnseen(row, 0n), 9n);
  history.noteTruncate("public", "t", 500n, 10n);
  history.prune(400n);
  assert.equal(history.deletedUnseen(row, 0n), 10n);
  history.prune(500n);
  assert.equal(history.deletedUnseen(row, 0n), null);
});
