// Compares the files in a pack's tar with PostgreSQL's backup manifest while they pass: name, kind, size, checksum,
// nothing missing, nothing that does not belong there. Touches no disk itself; a name that it passes on stays inside
// the folder it is extracted to.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { createCRC32, type IHasher } from "hash-wasm";
import { createTarDecoder } from "modern-tar";
import { type Algorithm, type BackupManifest, walSegments } from "./backup_manifest.ts";
import { fromWebStream, toWebStream } from "./streams.ts";

/** Takes the files; each `write` is awaited. */
export interface EntrySink {
  folder(path: string): Promise<void>;
  file(path: string): Promise<{ write(chunk: Uint8Array): Promise<void>; close(): Promise<void> }>;
}

/** The content is not what the manifest says. */
export class EntryError extends Error {}

/** Takes everything and keeps nothing: for verifying alone. */
export const nowhere: EntrySink = {
  folder: () => Promise.resolve(),
  file: () => Promise.resolve({ write: () => Promise.resolve(), close: () => Promise.resolve() }),
};

/** Normal form of a name in the tar. Throws EntryError where it would leave the folder or is ambiguous. */
export function safePath(name: string): string {
  const path = name.replace(/^\.\//, "").replace(/\/+$/, ""); // PostgreSQL itself writes ./pg_wal/archive_status/
  const parts = path.split("/");
  const bad = (part: string) => part === "" || part === "." || part === ".." || /[\\\0:]/.test(part);
  if (name.startsWith("/") || parts.some(bad)) throw new EntryError(`the name ${JSON.stringify(name)} is not allowed`);
  return path;
}

const walFile = /^pg_wal\/(?:([0-9A-F]{24})|[0-9A-F]{8}\.history|archive_status\/[0-9A-F]{8}[0-9A-F.a-z]*\.done)$/;

/** Castagnoli's polynomial, reversed: https://www.rfc-editor.org/rfc/rfc3720#section-12.1 */
const crc32c = 0x82f63b78;

/** PostgreSQL's own bound; what is not in the manifest has no other. */
const mostSegmentBytes = 1 << 30;

/** Reads the tar to its end. Throws EntryError at the first thing that is wrong. */
export async function checkEntries(
  tar: AsyncIterable<Uint8Array>,
  manifest: BackupManifest,
  sink: EntrySink = nowhere,
): Promise<{ files: number; bytes: number }> {
  const seen = new Set<string>();
  const wal = new Map<string, number>();
  let bytes = 0;
  const crc = await createCRC32(crc32c);
  const decoder = createTarDecoder({ strict: true });
  const reader = toWebStream(tar).pipeThrough(decoder as ReadableWritablePair<TarEntry, Uint8Array>).getReader();
  try {
    while (true) {
      const { done, value: entry } = await reader.read();
      if (done) break;
      const path = safePath(entry.header.name);
      if (seen.has(path)) throw new EntryError(`${path} is there twice`);
      seen.add(path);
      if (entry.header.type === "directory") {
        await entry.body.cancel();
        await sink.folder(path);
        continue;
      }
      if ((entry.header.type ?? "file") !== "file") throw new EntryError(`${path} is a ${entry.header.type}`);
      const expected = manifest.files.get(path);
      const segment = walFile.exec(path);
      if (!expected && !segment) throw new EntryError(`${path} is not in the backup manifest`);
      if (expected && expected.size !== entry.header.size) {
        throw new EntryError(`${path} has ${entry.header.size} bytes instead of ${expected.size}`);
      }
      if (segment && entry.header.size > mostSegmentBytes) throw new EntryError(`${path} is too large for WAL`);
      const sum = expected && startSum(expected.algorithm, crc);
      await copy(entry, await sink.file(path), sum);
      if (expected && sum?.digest() !== expected.checksum) throw new EntryError(`${path} does not fit its checksum`);
      if (segment?.[1]) wal.set(segment[1], entry.header.size);
      bytes += entry.header.size;
    }
  } finally {
    await reader.cancel().catch(() => {}); // the error that ended the loop is the one to show
  }
  for (const path of manifest.files.keys()) if (!seen.has(path)) throw new EntryError(`${path} is missing`);
  checkWal(manifest, wal);
  return { files: seen.size, bytes };
}

interface TarEntry {
  header: { name: string; size: number; type?: string };
  body: ReadableStream<Uint8Array>;
}

interface Sum {
  update(chunk: Uint8Array): void;
  /** In the form of BackupFile.checksum. */
  digest(): string;
}

/** `crc` counts one file at a time. */
function startSum(algorithm: Algorithm, crc: IHasher): Sum {
  if (algorithm === "CRC32C") {
    crc.init();
    return {
      update: (chunk) => void crc.update(chunk),
      digest: () => Buffer.from(crc.digest("binary")).reverse().toString("hex"),
    };
  }
  const hash = createHash("sha256");
  return { update: (chunk) => void hash.update(chunk), digest: () => hash.digest("hex") };
}

async function copy(entry: TarEntry, to: Awaited<ReturnType<EntrySink["file"]>>, sum?: Sum): Promise<void> {
  let size = 0;
  try {
    for await (const chunk of fromWebStream(entry.body)) {
      sum?.update(chunk);
      size += chunk.length;
      await to.write(chunk);
    }
  } finally {
    await to.close();
  }
  if (size !== entry.header.size) throw new EntryError(`${entry.header.name} ends after ${size} bytes`);
}

// WAL is not in the manifest (PostgreSQL checks it record by record), but recovery needs all of it.
function checkWal(manifest: BackupManifest, wal: ReadonlyMap<string, number>): void {
  const [segmentBytes, ...others] = new Set(wal.values());
  if (segmentBytes === undefined) throw new EntryError("it has no WAL");
  if (others.length || segmentBytes < 1 << 20 || (segmentBytes & (segmentBytes - 1)) !== 0) {
    throw new EntryError("its WAL segments differ in size");
  }
  // A range that is longer than all there is need not be counted out.
  if (manifest.endLsn - manifest.startLsn > BigInt(segmentBytes) * BigInt(wal.size + 1)) {
    throw new EntryError("its WAL does not reach as far as its manifest says");
  }
  for (const name of walSegments(manifest, segmentBytes)) {
    if (!wal.has(name)) throw new EntryError(`WAL segment ${name} is missing`);
  }
}
