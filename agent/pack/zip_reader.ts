// Reads the zip around a pack's members, strictly: exactly those that a pack has, stored as they are.
// Never follows a name inside the zip to a path on disk.
import { type FileHandle, open } from "node:fs/promises";
import { configure, type FileEntry, Reader, ZipReader } from "@zip.js/zip.js";
import { reason, UsageError } from "../errors.ts";
import { AlteredPackError } from "./altered.ts";
import { memberNames } from "./manifest.ts";
import { Handover } from "./streams.ts";

/** Large chunks: each passes through half a dozen streams of the library, and costs a system call. */
const chunkBytes = 1 << 20;

configure({ useWebWorkers: false, chunkSize: chunkBytes });

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
  // The caller checks what it reads by more than a CRC.
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
