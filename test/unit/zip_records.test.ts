// A zip made by hand is one for whoever reads zips: the library, strictly; and whatever its size.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipReader } from "@zip.js/zip.js";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { directory, localHeader, type ZipMember } from "../../agent/pack/zip_records.ts";

const modified = new Date(2031, 4, 6, 7, 8, 10);

function zipOf(contents: readonly { name: string; bytes: Uint8Array }[]): Buffer {
  const parts: Uint8Array[] = [];
  const members: ZipMember[] = [];
  let offset = 0;
  for (const { name, bytes } of contents) {
    const member = { name, modified, offset, size: bytes.length, crc: crc32(bytes) };
    const header = localHeader(member);
    parts.push(header, bytes);
    offset += header.length + bytes.length;
    members.push(member);
  }
  return Buffer.concat([...parts, directory(members, offset)]);
}

test("the library reads it strictly, with its checksums", async () => {
  const name = fc.stringMatching(/^[a-z]{1,8}\.[a-z]{1,4}$/);
  const contents = fc.uniqueArray(fc.record({ name, bytes: fc.uint8Array({ maxLength: 300 }) }), {
    maxLength: 6,
    selector: (each) => each.name,
  });
  await fc.assert(
    fc.asyncProperty(contents, async (contents) => {
      const reader = new ZipReader(new Uint8ArrayReader(zipOf(contents)), {
        strictness: "strict",
        checkOverlappingEntry: true,
        checkSignature: true,
        useWebWorkers: false,
      });
      const read = [];
      for (const entry of await reader.getEntries()) {
        assert.ok(!entry.directory && !entry.encrypted);
        assert.equal(entry.lastModDate.getTime(), modified.getTime());
        read.push({ name: entry.filename, bytes: await entry.getData(new Uint8ArrayWriter()) });
      }
      assert.deepEqual(read, contents.map(({ name, bytes }) => ({ name, bytes })));
    }),
    { numRuns: 200 },
  );
});

test("members beyond 4 GB and far into the file are told of", async () => {
  const far = 5 * 2 ** 30 + 7;
  const member = { name: "data.tar.age", modified, offset: far, size: far + 2, crc: 0xfffffffe };
  const header = localHeader(member);
  assert.equal(header.readUInt32LE(14), 0xfffffffe);
  assert.deepEqual([header.readBigUInt64LE(46), header.readBigUInt64LE(54)], [BigInt(far + 2), BigInt(far + 2)]);
  // The library gets the end alone, as of a file that is so large.
  const start = far + header.length + member.size;
  const end = directory([member], start);
  class Far extends Uint8ArrayReader {
    override size = start + end.length;
    override readUint8Array(index: number, length: number): Promise<Uint8Array> {
      const bytes = new Uint8Array(Math.min(length, this.size - index));
      const from = Math.max(index, start);
      if (from < index + bytes.length) {
        bytes.set(end.subarray(from - start, index - start + bytes.length), from - index);
      }
      return Promise.resolve(bytes);
    }
    override init = () => Promise.resolve();
  }
  const [entry] = await new ZipReader(new Far(new Uint8Array()), { useWebWorkers: false }).getEntries();
  assert.equal(entry.filename, "data.tar.age");
  assert.deepEqual([entry.offset, entry.uncompressedSize, entry.compressedSize], [far, far + 2, far + 2]);
});
