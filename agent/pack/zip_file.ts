// The zip around a pack's members: written to a temporary file and renamed when whole, read strictly.
// Members are stored, not compressed (they are encrypted). Never follows a name inside the zip to a path on disk.
import { closeSync, existsSync, fsyncSync, openSync } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { configure, type FileEntry, Reader, ZipReader, ZipWriter } from "@zip.js/zip.js";
import { AgentError, reason, RefusedError, UsageError } from "../errors.ts";
import { AlteredPackError } from "./altered.ts";
import { memberNames } from "./manifest.ts";
import { Handover, toWebStream } from "./streams.ts";

/** Large chunks: each passes through half a dozen streams of the library, and costs a system call. */
const chunkBytes = 1 << 20;

const earlyBytes = 32 << 20;

configure({ useWebWorkers: false, chunkSize: chunkBytes });

export interface PackWriter {
  add(name: string, content: AsyncIterable<Uint8Array>): Promise<void>;
  /** Makes the file durable and gives it its name. */
  commit(): Promise<number>;
  /** Removes what was written; nothing else was changed. */
  discard(): Promise<void>;
}

/** Begins `path`.tmp; `path` itself stays as it is until commit(), and for ever where it is kept. */
export async function writeZip(path: string, { keepPresent = false } = {}): Promise<PackWriter> {
  const temporary = `${path}.tmp`;
  let file: FileHandle;
  if (keepPresent) refusePresent(path, temporary);
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    if (!keepPresent) await rm(temporary, { force: true });
    file = await open(temporary, "wx", 0o600);
  } catch (cause) {
    throw new AgentError(`Cannot write ${path}: ${reason(cause)}`, "name a folder that can be written", { cause });
  }
  let size = 0;
  const early = new EarlySync(file);
  const sink = new WritableStream<Uint8Array>({
    async write(chunk) {
      early.wrote(chunk.length);
      for (let done = 0; done < chunk.length;) {
        done += (await file.write(chunk, done, chunk.length - done, size + done)).bytesWritten;
      }
      size += chunk.length;
    },
  });
  const zip = new ZipWriter(sink, { level: 0, zip64: true, keepOrder: true });
  return {
    async add(name, content) {
      await zip.add(name, { readable: toWebStream(content) }, { level: 0, zip64: true });
    },
    async commit() {
      await zip.close();
      await early.end();
      await file.sync();
      if (keepPresent) refusePresent(path);
      await file.close();
      await rename(temporary, path);
      syncFolder(dirname(path));
      return size;
    },
    async discard() {
      await early.end().catch(() => {}); // what went wrong is on its way to the caller already
      await file.close();
      await rm(temporary, { force: true });
    },
  };
}

function refusePresent(...paths: string[]): void {
  const present = paths.find((path) => existsSync(path));
  if (present === undefined) return;
  throw new RefusedError(
    `Cannot write ${present}: it is there already`,
    present.endsWith(".tmp")
      ? "wait for the one who writes it, or remove what an interrupted command has left"
      : "name a new file: nothing is overwritten",
  );
}

/** Lets the disk begin while the rest is still made, so that the last sync does not have all to do. */
class EarlySync {
  #unsynced = 0;
  #running: Promise<void> | null = null;
  #failure: { error: unknown } | null = null;

  constructor(private readonly file: FileHandle) {}

  wrote(bytes: number): void {
    this.#unsynced += bytes;
    if (this.#unsynced < earlyBytes || this.#running) return;
    this.#unsynced = 0;
    this.#running = this.file.datasync().then(
      () => void (this.#running = null),
      // The system tells of a failed sync once: a later one may succeed though the bytes are lost.
      (error) => void (this.#failure = { error }),
    );
  }

  async end(): Promise<void> {
    await this.#running;
    if (this.#failure) throw this.#failure.error;
  }
}

/** Makes a rename in `folder` durable. */
export function syncFolder(folder: string): void {
  if (process.platform === "win32") return; // has no such thing
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

export interface ZipMembers {
  size(name: string): number;
  read(name: string): AsyncGenerator<Uint8Array>;
  close(): Promise<void>;
}

/** A directory of five members, and the pieces that members are read in, are far smaller. */
const mostReadBytes = 1 << 20;

class HandleReader extends Reader<FileHandle> {
  constructor(readonly file: FileHandle, size: number) {
    super(file);
    this.size = size;
  }

  override async readUint8Array(index: number, length: number): Promise<Uint8Array> {
    // The length may be what a header claims.
    length = Math.max(0, Math.min(length, this.size - index));
    if (length > mostReadBytes) throw new Error(`it claims a directory of ${length} bytes`);
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await this.file.read(bytes, done, length - done, index + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return bytes.subarray(0, done);
  }
}

const remedy = "copy the pack again and whole, or make a new one with agent pack create on the primary";

/** Opens a pack's zip: exactly the members of a pack, each once, each stored. */
export async function openZip(path: string): Promise<ZipMembers> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (cause) {
    throw new UsageError(`Cannot open ${path}: ${reason(cause)}`, "name an existing HAPack.zip", { cause });
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw new UsageError(`Cannot open ${path}: it is not a file`, "name a HAPack.zip");
    const entries = await listEntries(file, stat.size, path);
    const find = (name: string) => {
      const entry = entries.get(name);
      if (!entry) throw new UsageError(`Cannot open ${path}: it has no ${name}`, remedy);
      return entry;
    };
    return {
      size: (name) => find(name).uncompressedSize,
      read: (name) => readEntry(find(name), path),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function listEntries(file: FileHandle, size: number, path: string): Promise<Map<string, FileEntry>> {
  const known = new Set<string>(Object.values(memberNames));
  const found = new Map<string, FileEntry>();
  const zip = new ZipReader(new HandleReader(file, size), { strictness: "strict", checkOverlappingEntry: true });
  try {
    for await (const entry of zip.getEntriesGenerator()) {
      if (entry.directory || !known.has(entry.filename) || found.has(entry.filename)) {
        throw new Error(`unexpected member ${JSON.stringify(entry.filename.slice(0, 80))}`);
      }
      if (entry.encrypted || entry.compressionMethod !== 0 || entry.compressedSize !== entry.uncompressedSize) {
        throw new Error(`member ${entry.filename} is not stored as it is`);
      }
      found.set(entry.filename, entry);
    }
  } catch (cause) {
    throw new AlteredPackError(`Cannot open ${path}: it is no whole pack: ${reason(cause)}`, remedy, {
      cause,
    });
  }
  return found;
}

async function* readEntry(entry: FileEntry, path: string): AsyncGenerator<Uint8Array> {
  const handover = new Handover();
  // The member's SHA-256 is checked by the caller, so its CRC need not be.
  const pumped = entry.getData(new WritableStream({ write: (chunk) => handover.put(chunk) }), { checkSignature: false })
    .then(() => handover.end(), (error) => handover.end(error));
  try {
    yield* handover.chunks();
  } catch (cause) {
    throw new AlteredPackError(`Cannot open ${path}: member ${entry.filename} is damaged: ${reason(cause)}`, remedy, {
      cause,
    });
  } finally {
    await pumped; // it reads from the file, which is closed next
  }
}
