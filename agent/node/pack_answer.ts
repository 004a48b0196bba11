// GET and HEAD /v1/pack: the newest HAPack.zip, whole or from where a download was cut off. Sends no faster than it is
// read. Never sends a pack of another generation than the pair's: nobody could join with it.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type FileHandle, open, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { wantedBytes } from "../api/ranges.ts";
import { sendError } from "../api/serve.ts";
import { RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { inspectPack } from "../pack/open.ts";
import type { Sql } from "../postgres/connect.ts";
import { readPair } from "./database.ts";

const chunkBytes = 256 * 1024;
const remedy = "make one on the primary with agent pack create";

export interface PackSource {
  readonly file: string;
  /** The pair's generation as of now. */
  readonly generation: () => Promise<string>;
}

/** The primary's own: the generation is asked of its database, which a pack changes in between. */
export function packSource(home: Home, sql: Sql): PackSource {
  return { file: home.packFile, generation: async () => (await readPair(sql)).generation };
}

interface NewestPack {
  readonly handle: FileHandle;
  readonly size: number;
  readonly etag: string;
}

/** Throws RefusedError where there is no pack that a secondary could be made from. */
export async function checkPack(source: PackSource): Promise<void> {
  await (await openNewest(source)).handle.close();
}

export async function answerPack(
  source: PackSource,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let pack: NewestPack;
  try {
    pack = await openNewest(source);
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    return sendError(response, 409, error.message, error.remedy);
  }
  const { handle, size, etag } = pack;
  try {
    const { range } = request.headers;
    const ifRange = request.headers["if-range"];
    const wanted = wantedBytes({ range, ifRange: Array.isArray(ifRange) ? ifRange[0] : ifRange }, pack);
    const headers = { "accept-ranges": "bytes", etag, "cache-control": "no-store" };
    if (wanted.status === 416) {
      response.writeHead(416, { ...headers, "content-range": `bytes */${size}`, "content-length": 0 });
      return void response.end();
    }
    const { status, start, end } = wanted;
    response.writeHead(status, {
      ...headers,
      "content-type": "application/octet-stream",
      "content-length": end - start,
      ...(status === 206 ? { "content-range": `bytes ${start}-${end - 1}/${size}` } : {}),
    });
    if (request.method !== "HEAD") await send(handle, start, end, response);
    response.end();
  } finally {
    await handle.close();
  }
}

async function send(handle: FileHandle, start: number, end: number, response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  const left = () => gone.abort();
  response.once("close", left);
  try {
    for (let at = start; at < end && !gone.signal.aborted;) {
      const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, end - at));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
      // The length is promised already: what is missing must not look like an end.
      if (bytesRead === 0) return void response.destroy();
      at += bytesRead;
      if (!response.write(buffer.subarray(0, bytesRead))) {
        await once(response, "drain", { signal: gone.signal }).catch((error) => {
          if (!gone.signal.aborted) throw error;
        });
      }
    }
  } finally {
    response.off("close", left);
  }
}

/** The file by one handle, and what it says of itself; looked at again where it was replaced in between. */
async function openNewest({ file, generation }: PackSource): Promise<NewestPack> {
  while (true) {
    let handle: FileHandle;
    try {
      handle = await open(file, "r");
    } catch (cause) {
      throw new RefusedError("Cannot send the pack: this primary has none", remedy, { cause });
    }
    try {
      const manifest = await inspectPack(file).catch((error) => {
        throw error instanceof UsageError ? new RefusedError(`Cannot send the pack: ${error.message}`, remedy) : error;
      });
      const mine = await handle.stat();
      const named = await stat(file);
      if (named.ino !== mine.ino || named.dev !== mine.dev) {
        await handle.close();
        continue;
      }
      if (manifest.generation !== await generation()) {
        throw new RefusedError(
          "Cannot send the pack: the newest one is being made, or was not finished",
          "wait for agent pack create on the primary, or run it there again",
        );
      }
      const content = createHash("sha256").update(JSON.stringify(manifest)).digest("hex");
      return { handle, size: mine.size, etag: `"${content.slice(0, 32)}"` };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }
}
