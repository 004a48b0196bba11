// Packs and backups, spoilt in any way, by accident or by one who has the key: opened whole, or refused by a proper error with
// nothing left behind; and no header's claim takes memory.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { decrypt, encrypt } from "../../agent/pack/age.ts";
import { BackupManifestError, parseBackupManifest, walSegments } from "../../agent/pack/backup_manifest.ts";
import { checkEntries, safePath } from "../../agent/pack/entries.ts";
import { memberNames, parseManifest, parsePair, parseShared } from "../../agent/pack/manifest.ts";
import { inspectPack, type OpenCopy, openCopy, openPack } from "../../agent/pack/open.ts";
import type { MasterKey } from "../../agent/trust/key.ts";
import { onlyProper, runs, spoilt, spoiltText, tried } from "../helpers/fuzz.ts";
import {
  backupManifestOf,
  once,
  type Parts,
  partsOf,
  sealed,
  sharedPart,
  writeSmallPack,
} from "../helpers/small_pack.ts";

const key: MasterKey = { path: "/key", bytes: randomBytes(32) };
let folder: string;
let file: string;
let parts: Parts;
let good: Buffer;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "fuzz-pack-"));
  file = join(folder, "spoilt.zip");
  parts = await partsOf();
  await writeSmallPack(join(folder, "good.zip"), key, parts);
  good = readFileSync(join(folder, "good.zip"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function opened<T>(path: string, act: (copy: OpenCopy) => Promise<T>): Promise<T> {
  const copy = await openCopy(path, key);
  try {
    return await act(copy);
  } finally {
    await copy.close();
  }
}

const verified = (path: string) =>
  opened(path, async (copy) => ({ manifest: copy.manifest, shared: copy.shared, ...await copy.verify() }));

test("the bytes of the file: what opens is what was made", async () => {
  const right = await verified(join(folder, "good.zip"));
  assert.deepEqual([right.files, right.shared], [5, sharedPart]);
  const small = good.indexOf(memberNames.backupManifest) - 100;
  // Most of the file is a megabyte of WAL; what is around it is more worth while.
  const pieces = [[0, 700], [small, good.length], [good.length - 1200, good.length], [0, good.length]];
  const input = fc.constantFrom(...pieces).chain(([from, to]) =>
    spoilt(good.subarray(from, to)).map((piece) => Buffer.concat([good.subarray(0, from), piece, good.subarray(to)]))
  );
  await fc.assert(
    fc.asyncProperty(input, async (bytes) => {
      writeFileSync(file, bytes);
      await onlyProper(async () => assert.deepEqual(await verified(file), right));
      await onlyProper(() => inspectPack(file));
    }),
    runs(150),
  );
});

test("a file of any bytes", async () => {
  const start = good.subarray(0, 60);
  const end = good.subarray(good.length - 120);
  const any = fc.uint8Array({ maxLength: 400 });
  await fc.assert(
    fc.asyncProperty(fc.oneof(any, any.map((bytes) => Buffer.concat([start, bytes, end]))), async (bytes) => {
      writeFileSync(file, bytes);
      await onlyProper(() => verified(file));
    }),
    runs(500),
  );
});

test("made by one who has the key: nothing is left behind, nothing lies elsewhere", async () => {
  const places = [0, 512, 1024, 1536, 11264, 11776, 12288];
  const tar = fc.constantFrom(...places).chain((at) =>
    spoilt(parts.tar.subarray(at, at + 512)).map((block) =>
      withChecksum(Buffer.concat([parts.tar.subarray(0, at), block, parts.tar.subarray(at + 512)]), at)
    )
  );
  const document = JSON.stringify(JSON.parse(Buffer.from(parts.backupManifest).toString().replace(/,\n.*\n$/, "}")));
  const changed = fc.oneof(
    tar.map((tar): Partial<Parts> => ({ tar })),
    spoiltText([document], ["../", "/etc/x", "\\u0000", "-1", "1e99", "null", "pg_wal/x"])
      .map((text): Partial<Parts> => ({ backupManifest: sealed(text) })),
    spoilt(parts.pair).map((pair): Partial<Parts> => ({ pair })),
    fc.tuple(fc.nat(3000), fc.constantFrom('"', "0", "-", "\\n", "{", "null")).map(([at, put]): Partial<Parts> => ({
      manifest: (right) => {
        const text = JSON.stringify(right);
        return text.slice(0, at % text.length) + put + text.slice(at % text.length + 1);
      },
    })),
  );
  const before = readdirSync(folder).sort();
  await fc.assert(
    fc.asyncProperty(changed, async (change) => {
      await writeSmallPack(file, key, { ...parts, ...change });
      const pgdata = join(folder, "data");
      await onlyProper(() => opened(file, (copy) => copy.extract(pgdata, { user: null, replace: false })));
      rmSync(pgdata, { recursive: true, force: true });
      rmSync(file);
      assert.deepEqual(
        readdirSync(folder).sort().filter((name) => name !== "spoilt.zip"),
        before.filter((name) => name !== "spoilt.zip"),
      );
    }),
    runs(60),
  );
});

/** The header at `at` with a sum that is right again, so that what was changed is looked at. */
function withChecksum(tar: Buffer, at: number): Buffer {
  if (tar.length < at + 512) return tar;
  tar.fill(0x20, at + 148, at + 156);
  const sum = tar.subarray(at, at + 512).reduce((all, byte) => all + byte, 0);
  tar.write(sum.toString(8).padStart(6, "0") + "\0 ", at + 148, "latin1");
  return tar;
}

test("a tar of any kind ends, in files that the manifest lists or in an error", async () => {
  const manifest = parseBackupManifest(backupManifestOf({ PG_VERSION: "18\n", "base/1/1259": "x".repeat(9000) }));
  const head = parts.tar.subarray(0, 12_800); // without the WAL
  const input = fc.oneof(
    spoilt(head),
    fc.tuple(spoilt(head), fc.nat(20)).map(([tar, block]) => withChecksum(tar, block * 512)),
  );
  await fc.assert(
    fc.asyncProperty(input, async (tar) => {
      tried();
      const written: string[] = [];
      const sink = {
        folder: () => Promise.resolve(),
        file: (path: string) => {
          written.push(path);
          return Promise.resolve({ write: () => Promise.resolve(), close: () => Promise.resolve() });
        },
      };
      await assert.rejects(checkEntries(once(tar, 5000), manifest, sink), Error); // it has no WAL at the least
      for (const path of written) assert.ok(manifest.files.has(path) || path.startsWith("pg_wal/"), path);
    }),
    runs(1200),
  );
});

test("manifests", async () => {
  const own = Buffer.from(parts.backupManifest).toString();
  fc.assert(
    fc.property(
      spoiltText([own.replace(/,\n.*\n$/, "}")], ["-1", "1e99", '"Path":"x",', "null", "[]"]),
      (text) => {
        tried();
        for (const bytes of [sealed(text), Buffer.from(text)]) {
          try {
            const { startLsn, endLsn } = parseBackupManifest(bytes);
            if (endLsn - startLsn < 1n << 40n) walSegments(parseBackupManifest(bytes), 1 << 20);
          } catch (error) {
            assert.ok(error instanceof BackupManifestError || error instanceof SyntaxError, String(error));
          }
        }
      },
    ),
    runs(1500),
  );
  const pair = JSON.stringify({ ...sharedPart, primary_certificate: "BEGIN CERTIFICATE", join: { cert: "", key: "" } });
  for (const parse of [parseManifest, parsePair, parseShared]) {
    const text = spoiltText([pair, JSON.stringify({ format: "hapair pack", version: 1 })], [
      '"',
      "2",
      "{",
      "__proto__",
    ]);
    await fc.assert(fc.asyncProperty(text, (text) => onlyProper(() => parse(text, "it.zip"))), runs(500));
  }
  fc.assert(
    fc.property(spoiltText(["base/1/1259", "./pg_wal/x/"], ["../", "/", "\0", "\\", ":", "."]), (name) => {
      tried();
      let path: string;
      try {
        path = safePath(name);
      } catch (error) {
        return assert.ok(error instanceof Error);
      }
      assert.ok(join("/data", path).startsWith("/data/"), name);
    }),
    runs(3000),
  );
});

test("a header's claim takes no memory: the directory of a zip, the header of an age file", async () => {
  // The record of the zip's end says that its directory has 4 GB.
  const end = Buffer.from(good);
  const record = end.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  const zip64 = end.lastIndexOf(Buffer.from("PK\x06\x06", "latin1"));
  for (const at of [record + 12, zip64 < 0 ? record + 12 : zip64 + 40]) end.writeUInt32LE(0xfffffff0, at);
  writeFileSync(file, end);
  await onlyProper(() => verified(file));
  const sparse = Buffer.alloc(3 << 20);
  good.copy(sparse, 0, 0, 100);
  good.copy(sparse, sparse.length - (good.length - record), record);
  sparse.writeUInt32LE(2 << 20, sparse.length - (good.length - record) + 12);
  writeFileSync(file, sparse);
  await assert.rejects(openCopy(file, key), /no whole pack/);

  const lines = Buffer.from("-> X25519 " + "A".repeat(43) + "\n" + "A".repeat(43) + "\n");
  for (const [what, piece] of [["one line", Buffer.alloc(1000, 0x41)], ["many stanzas", lines]] as const) {
    let taken = 0;
    const endless = async function* () {
      yield Buffer.from("age-encryption.org/v1\n");
      for (; taken < 1 << 30; taken += piece.length) yield await Promise.resolve(piece);
    };
    await assert.rejects(
      async () => {
        for await (const _ of decrypt(key, endless()));
      },
      /its header does not end/,
      what,
    );
    assert.ok(taken < 64 * 1024, `${what}: ${taken} bytes were taken in`);
  }
  const plain: Uint8Array[] = [];
  for await (const chunk of decrypt(key, once(await bytesOf(encrypt(key, once(Buffer.from("short")))), 7))) {
    plain.push(chunk);
  }
  assert.equal(Buffer.concat(plain).toString(), "short");
});

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

test("a backup is no pack", async () => {
  await assert.rejects(openPack(join(folder, "good.zip"), key), /it is a backup of a, not a pack/);
});
