// The package postgres as scripts/patch_packages.ts mends it: answers are the same however the socket cuts them.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import postgres from "postgres";

const message = (kind: string, ...parts: Buffer[]) => {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(kind, 0, "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const u16 = (value: number) => Buffer.from([value >> 8, value & 255]);
const u32 = (value: number) => Buffer.from([value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255]);
const ready = message("Z", Buffer.from("I"));
const row = (value: string) => message("D", u16(1), u32(value.length), Buffer.from(value));
const answer = (values: string[]) =>
  Buffer.concat([
    // One column `v` of type text.
    message("T", u16(1), Buffer.from("v\0"), u32(0), u16(0), u32(25), u16(0xffff), u32(0xffffffff), u16(0)),
    ...values.map(row),
    message("C", Buffer.from(`SELECT ${values.length}\0`)),
    ready,
  ]);

/** A socket to a server that answers every query with `values`, in pieces of these sizes, one after the other. */
function fakeServer(values: string[], sizes: readonly number[]): Duplex {
  let greeted = false;
  let piece = 0;
  const send = (socket: Duplex, bytes: Buffer) => {
    for (let at = 0; at < bytes.length;) {
      const size = sizes[piece++ % sizes.length];
      socket.push(bytes.subarray(at, at + size));
      at += size;
    }
  };
  const socket = new Duplex({
    readableHighWaterMark: 1,
    read() {},
    write(chunk: Buffer, _encoding, done) {
      // Later, as a server does: never within the write.
      if (!greeted) setImmediate(send, this, Buffer.concat([message("R", u32(0)), ready]));
      else if (chunk[0] === 0x51) setImmediate(send, this, answer(values));
      greeted = true;
      done();
    },
    final(done) {
      done();
      this.destroy();
    },
  });
  return Object.assign(socket, { readyState: "open" });
}

test("rows cut into any chunks", async () => {
  const values = fc.array(fc.nat(40).map((length) => "abcdefghij".repeat(4).slice(0, length)), { maxLength: 30 });
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 300 })), { minLength: 1 });
  await fc.assert(
    fc.asyncProperty(values, sizes, async (values, sizes) => {
      const sql = postgres({
        max: 1,
        fetch_types: false,
        idle_timeout: 0,
        socket: () => Promise.resolve(fakeServer(values, sizes)),
      } as postgres.Options<Record<string, never>>);
      try {
        for (let turn = 0; turn < 2; turn++) {
          const rows = await sql.unsafe("SELECT").simple();
          assert.deepEqual(rows.map(({ v }) => v), values);
        }
      } finally {
        await sql.end({ timeout: 0 });
      }
    }),
    { numRuns: 150 },
  );
});
