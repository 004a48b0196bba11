// The bytes of the change stream: every message decodes, frames may be cut anywhere, and what is malformed is a
// DecodeError, never anything else.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import {
  ChangeFrame,
  encodePosition,
  encodeSeen,
  encodeStandbyStatus,
  type Frame,
  FrameReader,
} from "../../agent/change/frames.ts";
import * as pgoutput from "../../agent/change/pgoutput.ts";
import { keyBytes } from "../../agent/change/row_key.ts";
import * as make from "../helpers/messages.ts";

const { decodeChange, DecodeError, decodeTuple, skipTuple } = pgoutput;

// Written out byte by byte from the protocol's page, so that the builder of the other tests is not its own judge:
// changes of public.t (id int4 PRIMARY KEY, v text).
const written = {
  begin: "42000000000156b0f80002c4a7d8e3c1a4000002f1",
  relation: "520000400a7075626c69630074006400020169640000000017ffffffff00760000000019ffffffff",
  insert: "490000400a4e0002620000000400000001620000000568656c6c6f",
  update: "550000400a4e00026200000004000000016e",
  delete: "440000400a4b00026200000004000000016e",
  truncate: "5400000001030000400a",
};
const bytes = (hex: string) => Buffer.from(hex, "hex");

test("messages written out by hand", () => {
  assert.deepEqual(pgoutput.decodeBegin(bytes(written.begin)), {
    commitLsn: 0x156b0f8n,
    commitTime: 0x2c4a7d8e3c1a4n,
    xid: 0x2f1,
  });
  assert.deepEqual(pgoutput.decodeRelation(bytes(written.relation)), {
    oid: 0x400a,
    schema: "public",
    name: "t",
    replicaIdentity: "d",
    columns: [{ name: "id", key: true, typeOid: 23, typmod: -1 }, { name: "v", key: false, typeOid: 25, typmod: -1 }],
  });
  const insert = bytes(written.insert);
  assert.deepEqual(decodeChange(insert), { relation: 0x400a, oldTuple: -1, oldIsKey: false, newTuple: 6 });
  const [id, v] = decodeTuple(insert, 6);
  assert.equal(insert.readInt32BE(id.start), 1);
  assert.equal(insert.toString("utf8", v.start, v.end), "hello");
  assert.equal(decodeTuple(bytes(written.update), 6)[1].kind, pgoutput.columnTag.null);
  assert.deepEqual(decodeChange(bytes(written.delete)), {
    relation: 0x400a,
    oldTuple: 6,
    oldIsKey: true,
    newTuple: -1,
  });
  assert.deepEqual(pgoutput.decodeTruncate(bytes(written.truncate)), {
    relations: [0x400a],
    cascade: true,
    restartIdentity: true,
  });
});

test("constructed messages", () => {
  assert.deepEqual(pgoutput.decodeCommit(make.commit(5n, 9n, 7n)), { commitLsn: 5n, endLsn: 9n, commitTime: 7n });
  assert.deepEqual(pgoutput.decodeOrigin(make.origin(5n, "ha_peer")), { lsn: 5n, name: "ha_peer" });
  assert.deepEqual(pgoutput.decodeType(make.type(20000, "", "x")), { oid: 20000, schema: "pg_catalog", name: "x" });
  const message = pgoutput.decodeLogicalMessage(make.message("ha_mark", "é", { transactional: false, lsn: 3n }));
  assert.deepEqual({ ...message, content: message.content.toString() }, {
    transactional: false,
    lsn: 3n,
    prefix: "ha_mark",
    content: "é",
  });
  const update = make.update(9, ["1", undefined], ["0", null], "O");
  const change = decodeChange(update);
  assert.equal(change.oldIsKey, false);
  assert.equal(decodeTuple(update, change.newTuple)[1].kind, pgoutput.columnTag.unchanged);
});

test("times", () => {
  assert.equal(pgoutput.timeToMs(0n), Date.UTC(2000, 0, 1));
  assert.equal(pgoutput.timeToMs(-1_000_000n), Date.UTC(2000, 0, 1) - 1000);
});

/** Decodes a message all the way down, as its first byte says. */
function decodeAll(message: Buffer): void {
  switch (message[0]) {
    case 0x42:
      return void pgoutput.decodeBegin(message);
    case 0x43:
      return void pgoutput.decodeCommit(message);
    case 0x4f:
      return void pgoutput.decodeOrigin(message);
    case 0x52:
      return void pgoutput.decodeRelation(message);
    case 0x59:
      return void pgoutput.decodeType(message);
    case 0x54:
      return void pgoutput.decodeTruncate(message);
    case 0x4d:
      return void pgoutput.decodeLogicalMessage(message);
    default: {
      const { oldTuple, newTuple } = decodeChange(message);
      for (const at of [oldTuple, newTuple]) if (at >= 0) decodeTuple(message, at);
    }
  }
}

const samples: Buffer[] = [
  make.begin(5n, 7, 9n),
  make.commit(5n, 9n),
  make.origin(5n, "ha_peer"),
  make.relation(9, "public", "t", [{ name: "id", key: true }, { name: "v" }]),
  make.type(20000, "public", "mood"),
  make.insert(9, ["1", Buffer.from([1, 2, 3]), null]),
  make.update(9, ["1", undefined], ["0", null]),
  make.update(9, ["1", undefined], ["0", "x"], "O"),
  make.remove(9, ["1", null]),
  make.truncate([9, 10], 3),
  make.message("ha_verdict", "{}"),
];

test("messages cut short anywhere are DecodeErrors", () => {
  for (const sample of samples) {
    decodeAll(sample);
    for (let end = 1; end < sample.length; end++) {
      assert.throws(() => decodeAll(sample.subarray(0, end)), DecodeError, `${sample.toString("hex")} to ${end}`);
    }
  }
});

function onlyDecodeErrors(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
  }
}

const mutated = fc.tuple(
  fc.constantFrom(...samples),
  fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 }),
  fc.uint8Array({ maxLength: 8 }),
).map(([sample, flips, tail]) => {
  const copy = Buffer.concat([sample, tail]);
  for (const [at, value] of flips) if (at > 0) copy[at % copy.length] = value;
  return copy;
});

test("mutated messages decode or are DecodeErrors", () => {
  fc.assert(fc.property(mutated, (message) => onlyDecodeErrors(() => decodeAll(message))), { numRuns: 3000 });
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 60 }),
      (any) => onlyDecodeErrors(() => decodeAll(Buffer.from(any))),
    ),
    { numRuns: 3000 },
  );
});

test("the key of a row: lengths in front, null where a column is missing", () => {
  const key = (row: make.Value[], ...positions: number[]) => keyBytes(make.insert(1, row), 6, positions);
  assert.notEqual(key(["ab", "c"], 0, 1), key(["a", "bc"], 0, 1));
  assert.equal(key(["x", "1", "y"], 1), key([null, "1", undefined], 1));
  assert.notEqual(key(["1", "2"], 0), key(["1", "2"], 1));
  assert.equal(key([null, "1"], 0), null);
  assert.equal(key([undefined, "1"], 0), null);
  assert.equal(key(["1"]), null);
  const message = make.insert(1, ["a", "b", "c"]);
  assert.equal(skipTuple(message, 6), message.length);
});

// ---- frames

const errorResponse = Buffer.concat([
  Buffer.from("E"),
  Buffer.from([0, 0, 0, 4 + 17]),
  Buffer.from("SERROR\0Mtoo bad\0\0"),
]);
const copyDone = Buffer.from([0x63, 0, 0, 0, 4]);
const stream = Buffer.concat([
  make.xlog(samples[0]),
  encodeSeen({ position: 5n, seen: 7n, idle: true }),
  make.xlog(samples[5]),
  make.keepalive(99n, true),
  encodePosition(100n),
  make.xlog(samples[1]),
  copyDone,
  errorResponse,
]);

const plain = (frame: Frame) =>
  frame.type === "change"
    ? { message: frame.message.toString("hex"), frame: frame.chunk.toString("hex", frame.start, frame.end) }
    : frame;
const readIn = (chunks: Buffer[]) => {
  const reader = new FrameReader();
  return chunks.flatMap((chunk) => [...reader.read(chunk)].map(plain));
};
/** The same, with the rows taken where they are. */
const takeIn = (chunks: Buffer[]) => {
  const reader = new FrameReader();
  const all: unknown[] = [];
  for (const chunk of chunks) {
    const frames = reader.read(chunk, (chunk, start, end) => all.push(plain(new ChangeFrame(chunk, start, end))));
    for (const frame of frames) {
      assert.ok(frame.type !== "change" || !"IUD".includes(String.fromCharCode(frame.tag)));
      all.push(plain(frame));
    }
  }
  return all;
};
const whole = readIn([stream]);

test("the frames of a stream", () => {
  const change = (message: Buffer) => ({ message: message.toString("hex"), frame: make.xlog(message).toString("hex") });
  assert.deepEqual(whole, [
    change(samples[0]),
    { type: "seen", position: 5n, seen: 7n, idle: true },
    change(samples[5]),
    { type: "position", position: 99n, reply: true },
    { type: "position", position: 100n, reply: false },
    change(samples[1]),
    { type: "failure", text: "too bad" },
  ]);
});

test("frames cut at every offset, and into any chunks, are the same frames", () => {
  for (let at = 0; at <= stream.length; at++) {
    const chunks = [stream.subarray(0, at), stream.subarray(at)];
    assert.deepEqual(readIn(chunks), whole, `cut at ${at}`);
    assert.deepEqual(takeIn(chunks), whole, `cut at ${at}`);
  }
  fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (sizes) => {
    const chunks: Buffer[] = [];
    for (let at = 0, i = 0; at < stream.length; i++) {
      chunks.push(stream.subarray(at, at + sizes[i % sizes.length]));
      at += sizes[i % sizes.length];
    }
    assert.deepEqual(readIn(chunks), whole);
    assert.deepEqual(takeIn(chunks), whole);
  }));
});

test("what follows a frame that was cut is not copied, rows are not where no frame was cut", () => {
  const rows = [...samples].filter((message) => "IUD".includes(String.fromCharCode(message[0]))).map(make.xlog);
  assert.ok(rows.length > 1);
  const chunk = Buffer.concat([...rows, ...rows]);
  const cut = rows[0].length - 3;
  const reader = new FrameReader();
  const taken: { chunk: Buffer; bytes: string }[] = [];
  const take = (chunk: Buffer, start: number, end: number) =>
    void taken.push({ chunk, bytes: chunk.toString("hex", start, end) });
  const [first, second] = [chunk.subarray(0, cut), chunk.subarray(cut)];
  for (const part of [first, second]) assert.deepEqual([...reader.read(part, take)], []);
  assert.deepEqual(taken.map(({ bytes }) => bytes), [...rows, ...rows].map((row) => row.toString("hex")));
  assert.ok(taken.slice(1).every((row) => row.chunk === second));
});

test("a stream that is not one of frames is a DecodeError", () => {
  const read = (...all: Buffer[]) => () => readIn([Buffer.concat(all)]);
  const data = (...body: number[]) => Buffer.from([0x64, 0, 0, 0, 4 + body.length, ...body]);
  assert.throws(read(Buffer.from([0x64, 0, 0, 0, 3])), DecodeError);
  assert.throws(read(Buffer.from([0x64, 0xff, 0xff, 0xff, 0xff])), DecodeError);
  for (const kind of [0x77, 0x6b, 0x68, 0x78]) {
    assert.throws(read(data(kind)), DecodeError);
    assert.throws(read(data(), Buffer.from([kind, 0, 0, 0, 9, 0])), DecodeError);
  }
  assert.throws(read(make.xlog(Buffer.alloc(0))), DecodeError);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (any) => onlyDecodeErrors(read(Buffer.from(any)))), {
    numRuns: 2000,
  });
  fc.assert(
    fc.property(fc.nat(stream.length - 1), fc.nat(255), (at, value) => {
      const copy = Buffer.from(stream);
      copy[at] = value;
      onlyDecodeErrors(read(copy));
    }),
    { numRuns: 2000 },
  );
});

test("a standby status update has the form of the protocol", () => {
  const status = encodeStandbyStatus(5n);
  assert.equal(status.toString("latin1", 0, 1) + status.toString("latin1", 5, 6), "dr");
  assert.equal(status.readInt32BE(1), status.length - 1);
  for (const at of [6, 14, 22]) assert.equal(status.readBigUInt64BE(at), 5n);
  assert.equal(status.length, 5 + 34);
});
