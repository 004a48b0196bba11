// When relay and receiver rest, and what the relay puts together: nothing is lost or moved, a slow stream never waits, a
// backlog neither.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { collectMs, oneAtATime, waitsForDisk } from "../../agent/apply/pace.ts";
import { Outbox } from "../../agent/relay/outbox.ts";
import { Pace, rests } from "../../agent/relay/pace.ts";

test("the outbox gives what was put in, in its order, whatever chunks it lay in", () => {
  const parts = fc.array(fc.record({
    chunk: fc.nat(2),
    cuts: fc.tuple(fc.nat(40), fc.nat(40)),
    then: fc.constantFrom("add", "next", "take"),
    most: fc.integer({ min: 1, max: 60 }),
  }));
  fc.assert(fc.property(parts, (parts) => {
    const chunks = [0, 1, 2].map((n) => Buffer.from(Array.from({ length: 41 }, (_, i) => n * 50 + i)));
    const outbox = new Outbox();
    const wanted: Buffer[] = [];
    const taken: Buffer[] = [];
    for (const { chunk, cuts, then, most } of parts) {
      const [start, end] = [Math.min(...cuts), Math.max(...cuts)];
      const middle = (start + end) >> 1;
      // Frames that lie side by side come one after the other.
      const pieces = then === "next" ? [[start, middle], [middle, end]] : [[start, end]];
      for (const [from, to] of pieces) outbox.add(chunks[chunk], from, to);
      wanted.push(chunks[chunk].subarray(start, end));
      if (then !== "take") continue;
      const waiting = outbox.bytes;
      taken.push(outbox.take(most));
      assert.equal(taken.at(-1)!.length, Math.min(most, waiting));
    }
    assert.equal(outbox.bytes, Buffer.concat(wanted).length - Buffer.concat(taken).length);
    taken.push(outbox.take(outbox.bytes));
    assert.equal(outbox.bytes, 0);
    assert.deepEqual(Buffer.concat(taken), Buffer.concat(wanted));
  }));
});

test("what lies side by side in one chunk is not copied", () => {
  const chunk = Buffer.from("frames side by side");
  const outbox = new Outbox();
  outbox.add(chunk, 0, 6);
  outbox.add(chunk, 6, 11);
  const taken = outbox.take(100);
  assert.equal(taken.toString(), "frames side");
  assert.equal(taken.buffer, chunk.buffer);
});

/** Chunks of so many messages, every so many ms; how many of them were followed by a rest. */
function restsOf(
  pace: Pace,
  { count, everyMs, messages }: { count: number; everyMs: number; messages: number },
): number {
  let rested = 0;
  for (let i = 0; i < count; i++) if (pace.rest(1000 + i * everyMs, messages) > 0) rested++;
  return rested;
}

test("the relay does not rest at 200 transactions a second", () => {
  assert.equal(restsOf(new Pace(), { count: 1000, everyMs: 5, messages: 3 }), 0);
  // Every message by itself.
  assert.equal(restsOf(new Pace(), { count: 1000, everyMs: 5 / 3, messages: 1 }), 0);
});

test("the relay rests at thousands of transactions a second, and goes on when they become few", () => {
  const pace = new Pace();
  assert.ok(restsOf(pace, { count: 1000, everyMs: 0.1, messages: 1 }) > 900);
  assert.equal(pace.rest(5000, 3), 0);
});

test("the relay does not rest where a rest was long enough, and in a flood only for less than a timer gives", () => {
  assert.equal(restsOf(new Pace(), { count: 1000, everyMs: 1, messages: 200 }), 0);
  const pace = new Pace();
  const taken = Array.from({ length: 1000 }, (_, i) => pace.rest(1000 + i * 0.3, 100)).slice(100);
  assert.ok(taken.every((ms) => ms > 0 && ms < rests.timer));
});

test("a batch is collected only in a quick succession of transactions, and not beyond what it may hold", () => {
  const collected = (lastTransactions: number, sinceTakenMs: number, full = false) =>
    collectMs({ lastTransactions, sinceTakenMs, full });
  assert.equal(collected(1, 0), 0);
  assert.equal(collected(2, 3), 0);
  assert.ok(collected(50, 5) > 0);
  assert.ok(collected(50, 5) < collected(50, 0));
  assert.equal(collected(50, 1000), 0);
  assert.equal(collected(50, 0, true), 0);
});

test("one transaction at a time only after a deadlock, and only as long as the application writes", () => {
  const cases = [[0, false], [0, true], [3, false], [3, true]] as const;
  assert.deepEqual(cases.map(([careful, hasWriters]) => oneAtATime(careful, hasWriters)), [false, false, false, true]);
});

test("a commit waits for the disk unless another transaction is there, and in a backlog now and then all the same", () => {
  const backlog = { more: true, sinceFlushMs: 10, merges: false };
  assert.equal(waitsForDisk(backlog), false);
  assert.equal(waitsForDisk({ ...backlog, more: false }), true);
  assert.equal(waitsForDisk({ ...backlog, sinceFlushMs: 1000 }), true);
  assert.equal(waitsForDisk({ ...backlog, merges: true }), true);
});
