// The peer's stream, spoilt in any way: frames, pgoutput messages, the inbox and the relay's filter decode it or throw a
// DecodeError, and hold no more than what has arrived.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { test } from "node:test";
import fc from "fast-check";
import { Inbox } from "../../agent/apply/inbox.ts";
import { parsePositions } from "../../agent/apply/positions.ts";
import { type ChangeFrame, encodeSeen, FrameReader } from "../../agent/change/frames.ts";
import * as decode from "../../agent/change/pgoutput.ts";
import { keyBytes, sameKey } from "../../agent/change/row_key.ts";
import { Filter, UnknownKey } from "../../agent/relay/filter.ts";
import * as make from "../helpers/messages.ts";
import { runs, spoilt, tried } from "../helpers/fuzz.ts";

const columns = [{ name: "id", key: true }, { name: "v" }, { name: "logged_by" }];
/** A transaction of each kind of change, then one of the peer's. */
const messages: Buffer[] = [
  make.begin(5n, 7, 9n),
  make.type(20000, "public", "mood"),
  make.relation(9, "public", "t", columns),
  make.relation(10, "ha", "conflict", columns, "f"),
  make.insert(9, ["1", Buffer.from([1, 2, 3]), null]),
  make.update(9, ["1", undefined, "x"], ["0", null, null]),
  make.update(9, ["1", undefined, "x"], ["0", "x", "y"], "O"),
  make.remove(9, ["1", null, null]),
  make.truncate([9, 10], 3),
  make.message("ha_sequences", '[{"schema":"public","name":"s","last":"5"}]'),
  make.commit(5n, 9n),
  make.begin(15n, 8, 9n),
  make.origin(3n, "ha_peer"),
  make.insert(10, ["1", "kept", "primary"]),
  make.message("ha_verdict", '[{"schema":"public","table":"t","key":{"id":"1"},"name":"n","row":null,"renews":true}]'),
  make.commit(15n, 19n),
];
const seen = encodeSeen({ position: 9n, seen: 5n, idle: false });
const stream = Buffer.concat([...messages.map(make.xlog), seen, make.keepalive(30n)]);

function onlyDecodeErrors(act: () => void): void {
  tried();
  try {
    act();
  } catch (error) {
    if (!(error instanceof decode.DecodeError || error instanceof UnknownKey)) throw error;
  }
}

function decodeAny(message: Buffer): void {
  switch (message[0]) {
    case decode.tag.begin:
      return void decode.decodeBegin(message);
    case decode.tag.commit:
      return void decode.decodeCommit(message);
    case decode.tag.origin:
      return void decode.decodeOrigin(message);
    case decode.tag.relation:
      return void decode.decodeRelation(message);
    case decode.tag.type:
      return void decode.decodeType(message);
    case decode.tag.truncate:
      return void decode.decodeTruncate(message);
    case decode.tag.message:
      return void decode.decodeLogicalMessage(message);
    default: {
      const { oldTuple, newTuple } = decode.decodeChange(message);
      for (const at of [oldTuple, newTuple]) if (at >= 0) decode.decodeTuple(message, at);
    }
  }
}

/** What the applier does with a change before it asks the database. */
function readRow(message: Buffer, width: number): void {
  const { oldTuple, newTuple } = decode.decodeChange(message);
  const positions = Array.from({ length: width }, (_, position) => position);
  for (const at of [oldTuple, newTuple]) {
    if (at < 0) continue;
    assert.equal(decode.decodeTuple(message, at).length, width);
    keyBytes(message, at, positions);
  }
  if (oldTuple >= 0 && newTuple >= 0) sameKey(message, oldTuple, newTuple, positions);
}

test("messages", () => {
  fc.assert(fc.property(spoilt(...messages), (message) => onlyDecodeErrors(() => decodeAny(message))), runs(20_000));
});

test("a change that the inbox takes can be read to its last column", () => {
  const changes = messages.filter((message) => "IUDT".includes(String.fromCharCode(message[0])));
  fc.assert(
    fc.property(spoilt(...changes), (message) => {
      const inbox = new Inbox(0n, 0n, { maxOps: 100, maxBytes: 1 << 20 });
      for (const one of [messages[0], messages[2], messages[3]]) inbox.push(make.frameOf(one));
      onlyDecodeErrors(() => {
        if (message.length === 0) return;
        inbox.push(make.frameOf(message));
        inbox.push(make.frameOf(messages[10]));
        for (const { message, relation } of inbox.take()?.ops ?? []) {
          if (relation) readRow(message, relation.columns.length);
        }
      });
    }),
    runs(15_000),
  );
});

test("a whole stream, cut into any chunks, into the inbox and through the filter", () => {
  const input = fc.tuple(spoilt(stream), fc.integer({ min: 1, max: 200 }), fc.boolean());
  fc.assert(
    fc.property(input, ([bytes, size, notes]) => {
      const inbox = new Inbox(0n, 0n, { maxOps: 3, maxBytes: 500 });
      onlyDecodeErrors(() => {
        for (const frame of framesOf(bytes, size)) {
          if (frame.type === "failure") return;
          inbox.push(frame);
          if (inbox.full) inbox.take();
        }
      });
      const filter = new Filter(notes ? null : 0n, () => {}, silent, notes, "primary", () => ["id"]);
      onlyDecodeErrors(() => {
        for (const frame of framesOf(bytes, size)) if (frame.type === "change") filter.change(frame as ChangeFrame);
      });
      const other = new Inbox(0n, 0n, { maxOps: 3, maxBytes: 500 });
      const direct = new Filter(notes ? null : 0n, () => {}, silent, notes, "primary", () => ["id"]);
      for (const taker of [other, direct]) {
        const reader = new FrameReader();
        onlyDecodeErrors(() => {
          for (let at = 0; at < bytes.length; at += size) {
            const frames = reader.read(bytes.subarray(at, at + size), (...row) => taker.takeRow(...row));
            for (const frame of frames) {
              if (frame.type === "failure") return;
              if (taker === other) other.push(frame);
              else if (frame.type === "change") direct.change(frame);
            }
            if (other.full) other.take();
          }
        });
      }
    }),
    runs(4000),
  );
});

const silent = {
  commit: () => {},
  delete: () => {},
  truncate: () => {},
  verdict: () => {},
  question: () => {},
  mark: () => {},
  position: () => {},
};

function* framesOf(bytes: Buffer, size: number) {
  const reader = new FrameReader();
  for (let at = 0; at < bytes.length; at += size) yield* reader.read(bytes.subarray(at, at + size));
}

test("bytes of any kind", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      onlyDecodeErrors(() => void [...framesOf(Buffer.from(bytes), 7)]);
      if (bytes.length > 0) onlyDecodeErrors(() => decodeAny(Buffer.from(bytes)));
    }),
    runs(10_000),
  );
});

test("a length that is only claimed takes no memory", () => {
  // As many readers as would need 200 GB if they believed the header.
  const head = Buffer.from([0x64, 0x7f, 0xff, 0xff, 0xf0, 0x77]);
  const readers = Array.from({ length: 100 }, () => new FrameReader());
  const before = process.memoryUsage();
  for (const reader of readers) assert.deepEqual([...reader.read(Buffer.from(head))], []);
  const after = process.memoryUsage();
  assert.ok(after.arrayBuffers + after.external - before.arrayBuffers - before.external < 64 << 20);
  // A claim within a message, of which there are only so many bytes.
  const claims = Buffer.from(make.message("p", "content"));
  claims.writeUInt32BE(0xffff_fff0, claims.length - 7 - 4);
  assert.throws(() => decode.decodeLogicalMessage(claims), decode.DecodeError);
  const truncate = Buffer.from(make.truncate([1]));
  truncate.writeUInt32BE(0xffff_ffff, 1);
  assert.throws(() => decode.decodeTruncate(truncate), decode.DecodeError);
});

test("what is told of sequences", () => {
  const text = JSON.stringify([{ schema: "public", name: "s", last: "5" }, { schema: "a", name: "b", last: "-9" }]);
  fc.assert(
    fc.property(fc.oneof(spoilt(Buffer.from(text)).map(String), fc.json()), (content) => {
      tried();
      for (const { last } of parsePositions(content)) assert.equal(BigInt.asIntN(64, BigInt(last)), BigInt(last));
    }),
    runs(5000),
  );
});
