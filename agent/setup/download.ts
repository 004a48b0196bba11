// Downloads the primary's pack into the home, over any number of cuts and of commands. Only a whole file is handed on; what
// it is worth is for who opens it to find out.
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open, statfs } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type PeerClient, TurnedDownError } from "../api/client.ts";
import { writeDurably } from "../durable_file.ts";
import { AgentError, reason, UnreachableError } from "../errors.ts";
import { askFor, backoffMs, type DownloadNote, downloadNote, type Present, readAnswer } from "./download_plan.ts";

export interface DownloadRequest {
  readonly client: Pick<PeerClient, "openStream" | "where">;
  readonly file: string;
  readonly onProgress: (bytes: number, total: number) => void;
  /** The connection was lost and is made anew; one sentence. */
  readonly onNote: (text: string) => void;
  /** So long without a byte means that the connection is lost. */
  readonly idleMs?: number;
  /** So long without a byte, over all attempts, is the end. */
  readonly giveUpMs?: number;
}

export interface Downloaded {
  readonly bytes: number;
  /** How many of them were there from before. */
  readonly kept: number;
}

/** The connection broke in the middle of an answer. */
class Broken extends Error {}

/** How far one download has come. */
interface Course {
  kept: number | null;
  bytes: number;
  total: number;
  /** When the last byte came. */
  at: number;
  failures: number;
}

const headersMs = 15_000;

/** Brings the whole pack to `file`. A part that is there from before is gone on with if it is of the same pack. */
export async function downloadPack(request: DownloadRequest): Promise<Downloaded> {
  const { onNote, giveUpMs = 600_000 } = request;
  const course: Course = { kept: null, bytes: 0, total: 0, at: performance.now(), failures: 0 };
  while (true) {
    try {
      await attempt(request, course);
      return { bytes: course.bytes, kept: course.kept ?? 0 };
    } catch (error) {
      const lost = error instanceof Broken || error instanceof UnreachableError;
      // What cannot be reached from the beginning is more likely misnamed than lost.
      if (!lost || course.kept === null) throw error;
      // Once may be a cut in a bad moment.
      if (error instanceof TurnedDownError && course.failures >= 2) throw error;
      if (performance.now() - course.at > giveUpMs) {
        throw new UnreachableError(
          `Cannot download the pack: ${request.client.where} sent nothing for ${Math.round(giveUpMs / 1000)} s`,
          "run the same command again when it can be reached: what has arrived is kept",
          { cause: error },
        );
      }
      const wait = backoffMs(++course.failures);
      const said = error instanceof AgentError ? error.message : `connection lost: ${error.message}`;
      onNote(`${said}; again in ${wait / 1000} s, from byte ${course.bytes} of ${course.total}`);
      await delay(wait);
    }
  }
}

/** Removes what was downloaded, whole or not. */
export function discardDownload(file: string): void {
  rmSync(noteOf(file), { force: true });
  rmSync(file, { force: true });
}

/** One connection, from where the last one ended. */
async function attempt(request: DownloadRequest, course: Course): Promise<void> {
  const { client, file, idleMs = 20_000 } = request;
  const present = readPresent(file);
  const ask = askFor(present);
  const idle = new AbortController();
  const options = { headers: ask.headers, timeoutMs: headersMs, signal: idle.signal };
  const response = await client.openStream("GET", "/v1/pack", options);
  // The watch begins with the answer and is set back by each piece of it.
  let timer = setTimeout(() => idle.abort(), idleMs);
  try {
    const plan = readAnswer(ask, present, answerOf(response));
    if (plan === null) {
      throw new AgentError(
        `Cannot download the pack: ${client.where} did not send what it was asked for`,
        "install the same version of the agent on both servers",
      );
    }
    course.kept ??= plan.from;
    const handle = await openPart(file, plan);
    try {
      let at = plan.from;
      for await (const chunk of received(response)) {
        clearTimeout(timer);
        timer = setTimeout(() => idle.abort(), idleMs);
        if (at + chunk.length > plan.total) throw new Broken("more came than was said");
        await write(handle, chunk, at, file);
        at += chunk.length;
        Object.assign(course, { bytes: at, total: plan.total, at: performance.now(), failures: 0 });
        request.onProgress(at, plan.total);
      }
      if (at < plan.total) throw new Broken("the answer ended early");
      await handle.sync();
    } finally {
      await handle.close();
    }
  } finally {
    clearTimeout(timer);
    response.destroy();
  }
}

/** Tells a connection that breaks from a disk that does. */
async function* received(response: IncomingMessage): AsyncGenerator<Uint8Array> {
  const chunks = response[Symbol.asyncIterator]();
  while (true) {
    const { done, value } = await chunks.next().catch((cause) => {
      throw new Broken(reason(cause), { cause });
    });
    if (done) return;
    yield value;
  }
}

function answerOf(response: IncomingMessage) {
  const { statusCode, headers } = response;
  return {
    status: statusCode ?? 0,
    etag: headers.etag,
    contentLength: headers["content-length"],
    contentRange: headers["content-range"],
  };
}

function noteOf(file: string): string {
  return `${file}.json`;
}

/** What is there of a pack, and of which. */
function readPresent(file: string): Present | null {
  if (!existsSync(noteOf(file)) || !existsSync(file)) return null;
  const bytes = statSync(file).size;
  let note: unknown;
  try {
    note = JSON.parse(readFileSync(noteOf(file), "utf8"));
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
  const { success, data } = downloadNote.safeParse(note);
  return success && bytes <= data.total ? { ...data, bytes } : null;
}

/** The file to write into; begun anew unless the answer goes on with what is there. */
async function openPart(file: string, { from, etag, total }: DownloadNote & { from: number }): Promise<FileHandle> {
  if (from > 0) return await open(file, "r+");
  discardDownload(file);
  const { bavail, bsize } = await statfs(dirname(file));
  if (bavail * bsize < total) {
    throw new AgentError(
      `Cannot download the pack: it has ${megabytes(total)}, and ${dirname(file)} has room for ${
        megabytes(bavail * bsize)
      }`,
      "make room there, or name a home on another disk with --home",
    );
  }
  const handle = await open(file, "wx", 0o600);
  writeDurably(noteOf(file), JSON.stringify({ etag, total }) + "\n");
  return handle;
}

async function write(handle: FileHandle, chunk: Uint8Array, at: number, file: string): Promise<void> {
  try {
    for (let done = 0; done < chunk.length;) {
      done += (await handle.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
    }
  } catch (cause) {
    throw new AgentError(`Cannot write ${file}: ${reason(cause)}`, "make room on that disk and run it again", {
      cause,
    });
  }
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}
