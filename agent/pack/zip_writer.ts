// Writes a pack's zip to a temporary file, renamed when whole: members are stored, not compressed (they are encrypted).
// By hand, as every stream layer costs a primary that must go on serving. Never holds more than a few megabytes, and never
// touches a file that has the pack's name until the new one is durable.
import { closeSync, existsSync, fsyncSync, openSync } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { crc32 } from "node:zlib";
import { Buffer } from "node:buffer";
import { AgentError, reason, RefusedError } from "../errors.ts";
import { directory, localHeader, type ZipMember } from "./zip_records.ts";

/** Written at once, while as much is put together for the next time: each write is a call of the system. */
const writeBytes = 1 << 20;
const earlyBytes = 32 << 20;

export interface PackWriter {
  /** `content` must not change a chunk that it has yielded. */
  add(name: string, content: AsyncIterable<Uint8Array>): Promise<void>;
  /** Makes the file durable and gives it its name; resolves to its size in bytes. */
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
  const out = new Appender(file);
  const members: ZipMember[] = [];
  return {
    async add(name, content) {
      const begun: ZipMember = { name, modified: new Date(), offset: out.size, size: 0, crc: 0 };
      const header = localHeader(begun);
      await out.append(header);
      let crc = 0;
      for await (const chunk of content) {
        crc = crc32(chunk, crc);
        await out.append(chunk);
      }
      const member = { ...begun, size: out.size - begun.offset - header.length, crc };
      await out.rewrite(localHeader(member), begun.offset);
      members.push(member);
    },
    async commit() {
      await out.append(directory(members, out.size));
      await out.end();
      await file.sync();
      if (keepPresent) refusePresent(path);
      await file.close();
      await rename(temporary, path);
      syncFolder(dirname(path));
      return out.size;
    },
    async discard() {
      await out.end().catch(() => {}); // what went wrong is on its way to the caller already
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

/** Writes at the end of a file, in large pieces, of which one is on its way while the next is put together. */
class Appender {
  /** Of the file, once all is written. */
  size = 0;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #written = 0;
  #running: Promise<void> = Promise.resolve();
  readonly #early: EarlySync;

  constructor(private readonly file: FileHandle) {
    this.#early = new EarlySync(file);
  }

  async append(chunk: Uint8Array): Promise<void> {
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    this.size += chunk.length;
    if (this.#waitingBytes >= writeBytes) await this.#begin();
  }

  /** Overwrites what is there. */
  async rewrite(bytes: Uint8Array, at: number): Promise<void> {
    await this.#flush();
    await this.#write([bytes], at);
  }

  async end(): Promise<void> {
    await this.#flush();
    await this.#early.end();
  }

  async #flush(): Promise<void> {
    await this.#begin();
    await this.#running;
  }

  async #begin(): Promise<void> {
    await this.#running;
    const chunks = this.#waiting;
    const at = this.#written;
    this.#early.wrote(this.#waitingBytes);
    this.#written += this.#waitingBytes;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#running = this.#write(chunks, at);
    this.#running.catch(() => {}); // thrown by whoever awaits it next
  }

  async #write(chunks: Uint8Array[], at: number): Promise<void> {
    const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    if (total === 0) return;
    let { bytesWritten: done } = await this.file.writev(chunks, at);
    if (done === total) return;
    const all = Buffer.concat(chunks);
    while (done < total) done += (await this.file.write(all, done, total - done, at + done)).bytesWritten;
  }
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
