// Frames become batches of whole transactions; each carries how far the peer had seen when it committed.
import assert from "node:assert/strict";
import type { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { Inbox } from "../../agent/apply/inbox.ts";
import { DecodeError } from "../../agent/change/pgoutput.ts";
import * as make from "../helpers/messages.ts";

const limits = { maxOps: 4, maxBytes: 10_000 };
const table = make.relation(1, "public", "t", [{ name: "id", key: true }]);
const row = make.insert(1, ["1"]);

const opened = (...messages: Buffer[]) => {
  const inbox = new Inbox(50n, 5n, limits);
  push(inbox, table, ...messages);
  return inbox;
};
const push = (inbox: Inbox, ...messages: Buffer[]) => {
  messages.forEach((message, i) => {
    const frame = make.frameOf(message);
    // Every other row comes without a frame.
    if (i % 2 === 0 && "IUD".includes(String.fromCharCode(frame.tag))) {
      inbox.takeRow(frame.chunk, frame.start, frame.end);
    } else inbox.push(frame);
  });
};
const seen = (inbox: Inbox, seen: bigint, position = 0n, idle = false) =>
  inbox.push({ type: "seen", position, seen, idle });

/** Takes a batch and tells it in words. */
function told(inbox: Inbox): string | null {
  const batch = inbox.take();
  if (!batch) return null;
  const ends = batch.ended.map((each) => `${each.begin.xid}@${each.endLsn} saw ${each.seen}`).join(", ");
  return `${batch.ops.length} ops [${ends}]${
    batch.commits ? "" : " goes on"
  }, at ${batch.position}, seen ${batch.seen}` +
    (batch.idle ? ", idle" : "");
}

test("nothing has come, nothing is to be applied", () => {
  const inbox = opened();
  assert.equal(inbox.ready, false);
  assert.equal(inbox.take(), null);
  assert.equal(inbox.empty, true);
});

test("a transaction is taken when its commit is there", () => {
  const inbox = opened(make.begin(90n, 7), row, row);
  assert.equal(told(inbox), null);
  assert.deepEqual([inbox.empty, inbox.hasWhole], [false, false]);
  push(inbox, make.commit(90n, 100n));
  assert.equal(inbox.hasWhole, true);
  assert.equal(told(inbox), "2 ops [7@100 saw 5], at 100, seen 5");
  assert.equal(inbox.empty, true);
  assert.equal(told(inbox), null);
});

test("a batch is as old as its latest transaction, which need not be its last", () => {
  const inbox = opened(make.begin(90n, 7, 300n), row, make.commit(90n, 100n), make.begin(110n, 8, 200n), row);
  push(inbox, make.commit(110n, 120n));
  assert.equal(inbox.take()!.committedAt, 300n);
  seen(inbox, 8n, 130n);
  assert.equal(inbox.take()!.committedAt, null);
});

test("transactions that have ended make one batch; the one that is open stays", () => {
  const inbox = opened(make.begin(90n, 7), row, make.commit(90n, 100n));
  seen(inbox, 8n, 110n);
  push(inbox, make.begin(190n, 8), row, make.commit(190n, 200n), make.begin(290n, 9), row);
  assert.equal(told(inbox), "2 ops [7@100 saw 5, 8@200 saw 8], at 200, seen 8");
  assert.equal(told(inbox), null);
  push(inbox, make.commit(290n, 300n));
  assert.equal(told(inbox), "1 ops [9@300 saw 8], at 300, seen 8");
});

test("one at a time: the transactions that have ended are batches of their own", () => {
  const inbox = opened(make.begin(90n, 7), row, row, make.commit(90n, 100n));
  seen(inbox, 8n, 110n);
  push(inbox, make.begin(190n, 8), make.commit(190n, 200n), make.begin(290n, 9), row, make.commit(290n, 300n));
  const one = () => {
    const { ops, ended, position, seen } = inbox.take(true)!;
    return `${ops.length} of ${ended.map(({ begin }) => begin.xid)}, at ${position}, seen ${seen}`;
  };
  assert.deepEqual([one(), one(), one()], [
    "2 of 7, at 100, seen 5",
    "0 of 8, at 200, seen 8",
    "1 of 9, at 300, seen 8",
  ]);
  assert.equal(inbox.take(true), null);
  assert.equal(inbox.empty, true);
});

test("a seen that came before an open transaction counts with it, not before", () => {
  const inbox = opened(make.begin(90n, 7), row, make.commit(90n, 100n));
  seen(inbox, 8n, 190n);
  push(inbox, make.begin(190n, 8), row);
  assert.equal(told(inbox), "1 ops [7@100 saw 5], at 190, seen 5");
  push(inbox, make.commit(190n, 200n));
  assert.equal(told(inbox), "1 ops [8@200 saw 8], at 200, seen 8");
});

test("seen frames alone are progress; idle only if all are", () => {
  const inbox = opened();
  seen(inbox, 8n, 60n, true);
  assert.equal(told(inbox), "0 ops [], at 60, seen 8, idle");
  seen(inbox, 9n, 61n, true);
  seen(inbox, 10n, 62n, false);
  assert.equal(told(inbox), "0 ops [], at 62, seen 10");
  seen(inbox, 3n, 0n, true);
  assert.equal(told(inbox), "0 ops [], at 62, seen 10, idle");
});

test("a large transaction is taken in pieces; only the last one commits", () => {
  const inbox = opened(make.begin(90n, 7), row, row, row);
  assert.equal(inbox.full, false);
  push(inbox, row);
  assert.equal(inbox.full, true);
  assert.equal(told(inbox), "4 ops [] goes on, at 50, seen 0");
  assert.equal(inbox.full, false);
  push(inbox, row, make.commit(90n, 100n));
  assert.equal(told(inbox), "1 ops [7@100 saw 5], at 100, seen 5");
});

test("full by bytes", () => {
  const inbox = new Inbox(0n, 0n, { maxOps: 1000, maxBytes: 100 });
  push(inbox, table, make.begin(90n, 7), make.insert(1, ["x".repeat(100)]));
  assert.equal(inbox.full && inbox.ready, true);
  assert.equal(told(inbox), "1 ops [] goes on, at 0, seen 0");
  assert.equal(inbox.full, false);
});

test("an op carries the relation as it was described when it came", () => {
  const inbox = opened(
    make.begin(90n, 7),
    row,
    make.relation(1, "public", "renamed", [{ name: "id", key: true }]),
    row,
  );
  push(inbox, make.truncate([1, 99]), make.message("ha_verdict", "{}"), make.commit(90n, 100n));
  const { ops } = inbox.take()!;
  assert.deepEqual(ops.map((op) => op.relation?.name), ["t", "renamed", undefined, undefined]);
  assert.deepEqual(ops.slice(0, 2).map((op) => op.message.toString("hex")), [row, row].map((it) => it.toString("hex")));
  assert.deepEqual(ops[2].truncated.map((relation) => relation.name), ["renamed"]);
});

test("how far the peer's WAL goes", () => {
  const inbox = opened(make.begin(90n, 7), make.commit(90n, 100n));
  assert.equal(inbox.peerPosition, 100n);
  inbox.push({ type: "position", position: 400n, reply: false });
  inbox.push({ type: "position", position: 300n, reply: false });
  assert.equal(inbox.peerPosition, 400n);
});

test("what is out of place is a DecodeError", () => {
  assert.throws(() => opened(row), DecodeError);
  assert.throws(() => opened(make.commit(1n, 2n)), DecodeError);
  assert.throws(() => opened(make.begin(1n, 1), make.begin(2n, 2)), DecodeError);
  assert.throws(() => opened(make.begin(1n, 1), make.insert(99, ["1"])), DecodeError);
  assert.throws(() => opened().push({ type: "failure", text: "slot gone" }), /slot gone/);
  opened(make.message("other", "between transactions"));
});

test("whenever it is taken, every op comes once, in order, and with the seen that stood before its transaction", () => {
  const transactions = fc.array(fc.record({ ops: fc.nat(9), seen: fc.nat(3), takes: fc.array(fc.nat(9)) }));
  fc.assert(fc.property(transactions, (all) => {
    const inbox = opened();
    const wanted: string[] = [];
    const got: string[] = [];
    let current = 5n, position = 50n, committed = 50n;
    const take = () => {
      const batch = inbox.take();
      for (const op of batch?.ops ?? []) got.push(`${op.transaction.begin.xid} ${op.transaction.seen}`);
      if (!batch?.commits) return;
      assert.ok(batch.position >= committed);
      committed = batch.position;
    };
    all.forEach(({ ops, seen: more, takes }, xid) => {
      if (more > 0) seen(inbox, current += BigInt(more), position += 1n);
      push(inbox, make.begin(position += 1n, xid));
      for (let i = 0; i < ops; i++) {
        push(inbox, row);
        wanted.push(`${xid} ${current}`);
        if (takes.includes(i)) take();
      }
      push(inbox, make.commit(position, position += 5n));
      if (takes.length > 2) take();
    });
    while (inbox.ready) take();
    assert.deepEqual(got, wanted);
    assert.equal(committed, position);
    assert.equal(inbox.empty, true);
  }));
});
