// The files in a pack against PostgreSQL's manifest: every way in which they may not fit, with tars made by hand.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { packTar, type TarEntry } from "modern-tar";
import { BackupManifestError, parseBackupManifest, walSegments } from "../../agent/pack/backup_manifest.ts";
import { checkEntries, EntryError, safePath } from "../../agent/pack/entries.ts";

const segment = 1 << 20;
const sha256 = (text: string | Uint8Array) => createHash("sha256").update(text).digest("hex");

interface Listed {
  [path: string]: string;
}

function manifestText(files: Listed, change: (document: Record<string, unknown>) => void = () => {}): Buffer {
  const document: Record<string, unknown> = {
    "PostgreSQL-Backup-Manifest-Version": 1,
    Files: Object.entries(files).map(([Path, content]) => ({
      Path,
      Size: content.length,
      "Last-Modified": "2030-01-01 00:00:00 GMT",
      "Checksum-Algorithm": "SHA256",
      Checksum: sha256(content),
    })),
    "WAL-Ranges": [{ Timeline: 1, "Start-LSN": "0/100028", "End-LSN": "0/200120" }],
  };
  change(document);
  const head = JSON.stringify(document).slice(0, -1) + ",\n";
  return Buffer.from(`${head}"Manifest-Checksum": "${sha256(head)}"}\n`);
}

const listed: Listed = { PG_VERSION: "18\n", "base/1/1259": "x".repeat(9000), backup_label: "START\n" };
const manifest = parseBackupManifest(manifestText(listed));
const file = (name: string, body: string | Uint8Array): TarEntry => ({
  header: { name, size: body.length, type: "file" },
  body,
});
const wal = ["000000010000000000000001", "000000010000000000000002"].map((name) =>
  file(`pg_wal/${name}`, new Uint8Array(segment))
);
const good: TarEntry[] = [
  { header: { name: "base/1/", size: 0, type: "directory" } },
  { header: { name: "./pg_wal/archive_status/", size: 0, type: "directory" } },
  ...Object.entries(listed).map(([name, body]) => file(name, body)),
  ...wal,
];

async function* inChunks(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

async function check(
  entries: TarEntry[],
  change: (tar: Uint8Array) => Uint8Array = (tar) => tar,
  against = manifest,
) {
  return await checkEntries(inChunks(change(await packTar(entries)), 50_000), against);
}

test("a tar that is as the manifest says", async () => {
  assert.deepEqual(await check(good), { files: 7, bytes: 9009 + 2 * segment });
});

test("CRC-32C, as the server lists it, and SHA-256 beside each other", async () => {
  // The check value of https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4 for 32 bytes of zeros, and the catalogues' for
  // 123456789.
  const sums: Record<string, string> = { zeros: "aa36918a", digits: "839206e3", nothing: "00000000" };
  const contents: Record<string, string> = { zeros: "\0".repeat(32), digits: "123456789", nothing: "" };
  const listing = (change: Record<string, string> = {}) =>
    parseBackupManifest(manifestText({ ...listed, ...contents }, (d) => {
      for (const file of d.Files as Record<string, unknown>[]) {
        const sum = { ...sums, ...change }[String(file.Path)];
        if (sum !== undefined) Object.assign(file, { "Checksum-Algorithm": "CRC32C", Checksum: sum });
      }
    }));
  const all = [...good, ...Object.entries(contents).map(([name, body]) => file(name, body))];
  assert.equal((await check(all, undefined, listing())).files, 10);
  await assert.rejects(check(all, undefined, listing({ digits: "839206e4" })), /digits does not fit its checksum/);
  await assert.rejects(check(all, undefined, listing({ nothing: "00000001" })), /nothing does not fit its checksum/);
  const altered = all.map((entry) => entry.header.name === "zeros" ? file("zeros", "\0".repeat(31) + "x") : entry);
  await assert.rejects(check(altered, undefined, listing()), /zeros does not fit its checksum/);
  assert.throws(() => listing({ zeros: sums.zeros.repeat(8) }), /no CRC32C or SHA256 checksum for zeros/);
});

const without = (name: string) => good.filter((entry) => entry.header.name !== name);
const bad: [string, TarEntry[], RegExp][] = [
  ["a file missing", without("backup_label"), /backup_label is missing/],
  ["a file too many", [...good, file("base/1/999", "x")], /base\/1\/999 is not in the backup manifest/],
  ["a program in pg_wal", [...good, file("pg_wal/evil.so", "x")], /not in the backup manifest/],
  ["a file changed", [...without("PG_VERSION"), file("PG_VERSION", "17\n")], /does not fit its checksum/],
  ["a file longer", [...without("PG_VERSION"), file("PG_VERSION", "18\n\n")], /4 bytes instead of 3/],
  ["a file twice", [...good, file("PG_VERSION", "18\n")], /PG_VERSION is there twice/],
  [
    "a WAL segment missing",
    good.filter((entry) => !entry.header.name.endsWith("2")),
    /WAL segment 0{7}10{15}2 is missing/,
  ],
  ["no WAL at all", good.filter((entry) => !/pg_wal\/0/.test(entry.header.name)), /it has no WAL/],
  ["a path upwards", [file("../evil", "x"), ...good], /"..\/evil" is not allowed/],
  ["a path upwards inside", [file("base/../../evil", "x"), ...good], /is not allowed/],
  ["an absolute path", [file("/etc/evil", "x"), ...good], /is not allowed/],
  ["a symbolic link", [
    { header: { name: "base/2", size: 0, type: "symlink", linkname: "/etc" } },
    ...good,
  ], /base\/2 is a symlink/],
  [
    "a hard link",
    [{ header: { name: "base/2", size: 0, type: "link", linkname: "/etc/passwd" } }, ...good],
    /is a link/,
  ],
  ["a device", [{ header: { name: "base/2", size: 0, type: "block-device" } }, ...good], /is a block-device/],
];
for (const [name, entries, message] of bad) {
  test(`refused: ${name}`, async () => {
    await assert.rejects(check(entries), (error: Error) => {
      assert.match(error.message, message);
      return error instanceof EntryError;
    });
  });
}

test("refused: a tar that is cut off, or whose header is damaged", async () => {
  for (const length of [512, 5000, 20_000, 1_500_000]) {
    await assert.rejects(check(good, (tar) => tar.subarray(0, length)));
  }
  await assert.rejects(check(good, (tar) => {
    const damaged = Uint8Array.from(tar);
    damaged[3] ^= 0x20;
    return damaged;
  }));
});

test("names that may leave the folder are refused, PostgreSQL's own are not", () => {
  for (const name of ["", "/", "..", "a/..", "a/./b", "a//b", "a\\b", "C:/x", "a\0b", "././a"]) {
    assert.throws(() => safePath(name), EntryError, JSON.stringify(name));
  }
  assert.equal(safePath("./pg_wal/archive_status/"), "pg_wal/archive_status");
  assert.equal(safePath("base/1/1259_fsm.1"), "base/1/1259_fsm.1");
});

const malformed: [string, Buffer, RegExp][] = [
  ["empty", Buffer.from(""), /no checksum of its own/],
  ["altered", Buffer.from(manifestText(listed).toString().replace("1259", "1258")), /does not fit its own checksum/],
  [
    "of a later version",
    manifestText(listed, (d) => d["PostgreSQL-Backup-Manifest-Version"] = 9),
    /malformed at Postgre/,
  ],
  [
    "with checksums that nobody asked for",
    manifestText(listed, (d) => {
      (d.Files as Record<string, unknown>[])[0]["Checksum-Algorithm"] = "SHA224";
    }),
    /no CRC32C or SHA256 checksum for PG_VERSION/,
  ],
  [
    "without checksums",
    manifestText(listed, (d) => {
      delete (d.Files as Record<string, unknown>[])[0].Checksum;
    }),
    /no CRC32C or SHA256 checksum for PG_VERSION/,
  ],
  [
    "with a name that is not UTF-8",
    manifestText(listed, (d) => {
      delete (d.Files as Record<string, unknown>[])[0].Path;
    }),
    /not UTF-8/,
  ],
  [
    "over two timelines",
    manifestText(listed, (d) => (d["WAL-Ranges"] as unknown[]).push({})),
    /malformed at WAL-Ranges/,
  ],
];
for (const [name, bytes, message] of malformed) {
  test(`backup manifest refused: ${name}`, () => {
    assert.throws(() => parseBackupManifest(bytes), (error: Error) => {
      assert.match(error.message, message);
      return error instanceof BackupManifestError;
    });
  });
}

test("WAL segments of a range", () => {
  const of = (start: string, end: string, bytes: number) =>
    walSegments(
      parseBackupManifest(manifestText({}, (d) => {
        d["WAL-Ranges"] = [{ Timeline: 10, "Start-LSN": start, "End-LSN": end }];
      })),
      bytes,
    );
  assert.deepEqual(of("0/2000028", "0/3000000", 16 << 20), ["0000000A0000000000000002"]);
  assert.deepEqual(of("1/FF000028", "2/1", 16 << 20), ["0000000A00000001000000FF", "0000000A0000000200000000"]);
});
