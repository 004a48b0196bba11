// A logical replication session: START_REPLICATION on this node's slot, its bytes handed over in whole chunks as they
// come from the socket. Confirms nothing by itself: only `confirm` moves the slot.
import type { Buffer } from "node:buffer";
import net from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { encodeStandbyStatus } from "../change/frames.ts";
import { formatLsn, type Lsn } from "../change/lsn.ts";
import { publicationName } from "../change/marks.ts";
import { reason, UnreachableError } from "../errors.ts";
import { errorCode, type Target } from "../postgres/connect.ts";

/** How often the walsender hears from us, well below its wal_sender_timeout (60 s). */
const statusIntervalMs = 5000;
/** A session that was just closed holds the slot until its walsender has noticed. */
const objectInUse = "55006";
const releaseMs = 5000;
const releasePollMs = 20;

export interface Session {
  /** Stops reading from the socket, so that the walsender waits. */
  pause(): void;
  resume(): void;
  /** The slot may go forward to `lsn`: the peer has everything before it. */
  confirm(lsn: Lsn): void;
  /** Ends the session; resolves when the connection is closed. */
  close(): Promise<void>;
  /** Resolves when the session has ended, with the error if it was not by `close`. */
  readonly ended: Promise<Error | null>;
}

/**
 * Starts streaming from the slot's confirmed position. `onChunk` gets CopyData frames, cut anywhere.
 * Throws UnreachableError when the server, the slot or the publication cannot be had.
 */
export async function startSession(
  target: Target,
  slot: string,
  confirmed: Lsn,
  onChunk: (chunk: Buffer) => void,
): Promise<Session> {
  const deadline = Date.now() + releaseMs;
  while (true) {
    try {
      return await trySession(target, slot, confirmed, onChunk);
    } catch (error) {
      const busy = error instanceof UnreachableError && errorCode(error.cause) === objectInUse;
      if (!busy || Date.now() > deadline) throw error;
      await delay(releasePollMs);
    }
  }
}

async function trySession(
  target: Target,
  slot: string,
  confirmed: Lsn,
  onChunk: (chunk: Buffer) => void,
): Promise<Session> {
  let socket: net.Socket | null = null;
  let streaming = false;
  // porsager hands CopyData over one message and one promise at a time. Logging in is left to it; from the moment that
  // the server switches to CopyBoth the socket's chunks are taken as they are.
  const open = async () => {
    socket = await connect(target);
    const on = socket.on.bind(socket);
    socket.on = ((event: string, listener: (...all: unknown[]) => void) => {
      if (event !== "data") return on(event, listener);
      const split = untilCopyBoth((chunk) => listener(chunk), (rest) => {
        streaming = true;
        if (rest.length > 0) onChunk(rest);
      });
      return on("data", (chunk: Buffer) => streaming ? onChunk(chunk) : split(chunk));
    }) as typeof socket.on;
    // The library would take the listeners below away with its own when the socket closes.
    socket.removeAllListeners = function () {
      return this;
    };
    return socket;
  };
  const sql = postgres({
    ...target,
    max: 1,
    fetch_types: false,
    idle_timeout: 0,
    max_lifetime: null,
    onnotice: () => {},
    connection: { application_name: "hapair relay", replication: "database" } as Record<string, string>,
    socket: open,
  } as postgres.Options<Record<string, never>>);

  let closing = false;
  let flushed = confirmed;
  let failure: Error | null = null;
  let settle: (error: Error | null) => void;
  const ended = new Promise<Error | null>((resolve) => settle = resolve);
  const options = `proto_version '1', publication_names '${publicationName}', binary 'true', messages 'true'`;
  try {
    const duplex = await sql.unsafe(`START_REPLICATION SLOT "${slot}" LOGICAL ${formatLsn(0n)} (${options})`)
      .writable();
    duplex.on("error", (error) => failure ??= error);
  } catch (error) {
    await sql.end({ timeout: 0 }).catch((problem) => failure ??= problem);
    throw new UnreachableError(
      `Cannot read the slot ${slot}: ${reason(error)}`,
      "see the log of PostgreSQL; the slot is made by agent setup primary",
      { cause: error },
    );
  }
  const opened = socket as net.Socket | null;
  if (!opened) throw new UnreachableError(`Cannot read the slot ${slot}: no connection`, "try again");
  const send = () => {
    if (opened.writable) opened.write(encodeStandbyStatus(flushed));
  };
  const timer = setInterval(send, statusIntervalMs);
  const finish = () => {
    clearInterval(timer);
    // The library's own view of the connection is of no more use; what it says of its end is known already.
    sql.end({ timeout: 0 }).catch((problem) => failure ??= problem);
    settle(closing ? null : failure ?? new Error("the server ended the replication session"));
  };
  opened.on("error", (error) => failure ??= error);
  opened.on("close", finish);
  if (opened.destroyed) finish();
  return {
    pause: () => opened.pause(),
    resume: () => opened.resume(),
    confirm(lsn) {
      if (lsn <= flushed) return;
      flushed = lsn;
      send();
    },
    async close() {
      closing = true;
      opened.destroy();
      finish();
      await ended;
    },
    ended,
  };
}

function connect(target: Target): Promise<net.Socket> {
  const to: net.NetConnectOpts = target.host.startsWith("/")
    ? { path: join(target.host, `.s.PGSQL.${target.port}`) }
    : { host: target.host, port: target.port };
  // A paused socket reads on until so much waits: message by message, each of which would be handed over by itself later.
  // What stays in the kernel comes in one piece.
  const options: net.NetConnectOpts & { readableHighWaterMark: number } = { ...to, readableHighWaterMark: 1 };
  const socket = net.connect(options);
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.removeListener("error", reject);
      resolve(socket);
    });
  });
}

/** Passes whole backend messages to `before` up to and with CopyBothResponse ('W'), and what follows it to `after`. */
export function untilCopyBoth(before: (chunk: Buffer) => void, after: (rest: Buffer) => void): (chunk: Buffer) => void {
  // Bytes of the current message still to come; its head may be cut too, and is then kept.
  let head: number[] = [];
  let left = 0;
  let last = false;
  return (chunk) => {
    let at = 0;
    while (at < chunk.length) {
      if (left === 0 && last) break;
      if (left > 0) {
        const step = Math.min(left, chunk.length - at);
        left -= step;
        at += step;
      } else {
        head.push(chunk[at++]);
        if (head.length === 5) {
          left = (head[1] << 24 | head[2] << 16 | head[3] << 8 | head[4]) - 4;
          last = head[0] === 0x57; // W
          head = [];
        }
      }
    }
    const done = left === 0 && last;
    before(done ? chunk.subarray(0, at) : chunk);
    if (done) after(chunk.subarray(at));
  };
}
