// The joints of a pack's pipeline hold back who produces, and let go when the reader leaves.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import { fromWebStream, Handover, pushedChunks, toWebStream } from "../../agent/pack/streams.ts";
import { writeZip } from "../../agent/pack/zip_writer.ts";

const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

test("a handover holds one chunk; leaving early fails the producer", async () => {
  const handover = new Handover();
  let put = 0;
  const producer = (async () => {
    for (;;) {
      await handover.put(Uint8Array.of(put));
      put++;
    }
  })();
  await turn();
  assert.equal(put, 0);
  for await (const chunk of handover.chunks()) {
    assert.ok(put <= chunk[0] + 1);
    if (chunk[0] === 5) break;
  }
  await assert.rejects(producer, /nobody reads on/);
});

test("a producer's error reaches the reader after its chunks", async () => {
  const handover = new Handover();
  void handover.put(Uint8Array.of(1)).then(() => handover.end(new Error("torn")));
  const chunks = handover.chunks();
  assert.deepEqual((await chunks.next()).value, Uint8Array.of(1));
  await assert.rejects(chunks.next(), /torn/);
});

test("pushed chunks keep their borders, and the source is read no faster than they are taken", async () => {
  let pushed = 0;
  const source = new Readable({
    highWaterMark: 4,
    read() {
      for (let room = true; room && pushed < 100;) room = this.push(Buffer.from(`chunk ${++pushed}`));
      if (pushed === 100) this.push(null);
    },
  });
  let taken = 0;
  for await (const chunk of pushedChunks(source, 20)) {
    assert.equal(chunk.toString(), `chunk ${++taken}`);
    await turn();
    // Three chunks are 20 bytes and more; the source has its own.
    assert.ok(pushed <= taken + 7, `${pushed} pushed, ${taken} taken`);
  }
  assert.equal(taken, 100);
});

test("a stream that breaks throws; a web stream that is left cancels its source", async () => {
  const source = new Readable({ read() {} });
  source.push("x");
  setTimeout(() => source.destroy(new Error("broken")), 1);
  await assert.rejects(async () => {
    for await (const chunk of pushedChunks(source)) assert.equal(String(chunk), "x");
  }, /broken/);

  let returned = false;
  const endless = (async function* () {
    try {
      for (;;) yield await Promise.resolve(new Uint8Array(10));
    } finally {
      returned = true;
    }
  })();
  for await (const _chunk of fromWebStream(toWebStream(endless))) break;
  assert.ok(returned);
});

test("a zip carries the checksums that every unzip expects", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ha-zip-"));
  try {
    const path = join(folder, "x.zip");
    const zip = await writeZip(path);
    await zip.add(
      "manifest.json",
      (async function* () {
        for (const part of ["1234", "", "56789"]) yield await Promise.resolve(Buffer.from(part));
      })(),
    );
    await zip.commit();
    const bytes = readFileSync(path);
    const directory = bytes.indexOf("PK\x01\x02", 0, "latin1");
    assert.equal(bytes.readUInt32LE(directory + 16), 0xcbf43926, "CRC-32's check value");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
