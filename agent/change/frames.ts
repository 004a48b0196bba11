// The frames of a change stream between the two nodes: PostgreSQL's own CopyData framing, so that what the walsender
// sends is passed on as it is, plus frames of hapair's own ('h'). Bytes only: knows no socket.
// https://www.postgresql.org/docs/current/protocol-replication.html (XLogData)
import { Buffer } from "node:buffer";
import type { Lsn } from "./lsn.ts";
import { DecodeError } from "./pgoutput.ts";

const copyData = 0x64; // d
const errorResponse = 0x45; // E
const xlogData = 0x77; // w
const keepalive = 0x6b; // k
const own = 0x68; // h
const xlogHeaderBytes = 25;
/** What stands before the message: the frame's own head and XLogData's. */
const headBytes = 5 + xlogHeaderBytes;
/** No change is larger than a tuple of 1 GB, PostgreSQL's own limit for a row's field, with its old version beside it. */
const maxFrameBytes = 0x7fffffff;

/** `seen`: how far the sender had applied the receiver's stream (the receiver's LSN) at the sender's `position`. */
export interface SeenFrame {
  type: "seen";
  position: Lsn;
  seen: Lsn;
  /** Progress without data behind it: it is acknowledged, but not answered by progress of one's own. */
  idle: boolean;
}
/** A pgoutput message as it is. */
export class ChangeFrame {
  readonly type = "change";
  private slice: Buffer | null = null;

  /** The whole frame, from `start` to `end` of its chunk. A slice costs: who needs none does without. */
  constructor(readonly chunk: Buffer, readonly start: number, readonly end: number) {}

  get message(): Buffer {
    return this.slice ??= this.chunk.subarray(this.start + headBytes, this.end);
  }

  /** Where the message starts in the chunk. */
  get at(): number {
    return this.start + headBytes;
  }

  /** The first byte of the message. */
  get tag(): number {
    return this.chunk[this.start + headBytes];
  }
}
/** How far the sender's WAL goes. */
export interface PositionFrame {
  type: "position";
  position: Lsn;
  /** The sender asks for a reply at once (walsender only). */
  reply: boolean;
}
export interface FailureFrame {
  type: "failure";
  text: string;
}
export type Frame = SeenFrame | ChangeFrame | PositionFrame | FailureFrame;

/** Cuts a stream of chunks into frames; keeps the rest of a chunk until the next one. */
export class FrameReader {
  private parts: Buffer[] = [];
  private partBytes = 0;
  private neededBytes = 5;

  /** Takes a chunk and yields each frame that is whole. Throws DecodeError when the stream is not one of frames. */
  *read(chunk: Buffer): Generator<Frame> {
    if (this.partBytes > 0) {
      this.parts.push(chunk);
      this.partBytes += chunk.length;
      // A large row arrives in many chunks: join them once, when the frame is whole.
      if (this.partBytes < this.neededBytes) return;
      chunk = Buffer.concat(this.parts, this.partBytes);
    }
    let at = 0;
    let needed = 5;
    while (chunk.length - at >= 5) {
      const length = chunk.readInt32BE(at + 1);
      if (length < 4 || length >= maxFrameBytes) throw new DecodeError(`Cannot read stream: frame of ${length} bytes`);
      needed = length + 1;
      if (chunk.length - at < needed) break;
      const frame = decodeFrame(chunk, at, at + needed);
      at += needed;
      needed = 5;
      if (frame) yield frame;
    }
    const rest = chunk.length - at;
    this.parts = rest > 0 ? [chunk.subarray(at)] : [];
    this.partBytes = rest;
    this.neededBytes = needed;
  }
}

function decodeFrame(chunk: Buffer, start: number, end: number): Frame | null {
  const kind = chunk[start];
  if (kind === errorResponse) return { type: "failure", text: errorText(chunk.subarray(start + 5, end)) };
  if (kind !== copyData) return null; // CopyDone, CommandComplete and the like: the stream is ending
  const body = start + 5;
  switch (chunk[body]) {
    case xlogData:
      if (end - body <= xlogHeaderBytes) throw new DecodeError("Cannot read stream: an empty change");
      return new ChangeFrame(chunk, start, end);
    case keepalive:
      if (end - body < 18) throw new DecodeError("Cannot read stream: a keepalive is cut short");
      return { type: "position", position: chunk.readBigUInt64BE(body + 1), reply: chunk[body + 17] === 1 };
    case own:
      if (end - body < 18) throw new DecodeError("Cannot read stream: a seen frame is cut short");
      return {
        type: "seen",
        position: chunk.readBigUInt64BE(body + 1),
        seen: chunk.readBigUInt64BE(body + 9),
        idle: chunk[body + 17] === 1,
      };
    default:
      throw new DecodeError(`Cannot read stream: unknown frame ${chunk[body]}`);
  }
}

/** The message field ('M') of an ErrorResponse. */
function errorText(body: Buffer): string {
  for (const field of body.toString("utf8").split("\0")) if (field[0] === "M") return field.slice(1);
  return "unknown error";
}

export function encodeSeen(frame: Omit<SeenFrame, "type">): Buffer {
  const bytes = Buffer.alloc(5 + 18);
  bytes[0] = copyData;
  bytes.writeInt32BE(4 + 18, 1);
  bytes[5] = own;
  bytes.writeBigUInt64BE(frame.position, 6);
  bytes.writeBigUInt64BE(frame.seen, 14);
  bytes[22] = frame.idle ? 1 : 0;
  return bytes;
}

/** The same form as the walsender's keepalive. */
export function encodePosition(position: Lsn): Buffer {
  const bytes = Buffer.alloc(5 + 18);
  bytes[0] = copyData;
  bytes.writeInt32BE(4 + 18, 1);
  bytes[5] = keepalive;
  bytes.writeBigUInt64BE(position, 6);
  return bytes;
}

/** A standby status update: what the receiver has written and flushed. */
export function encodeStandbyStatus(flushed: Lsn): Buffer {
  const bytes = Buffer.alloc(5 + 34);
  bytes[0] = copyData;
  bytes.writeInt32BE(4 + 34, 1);
  bytes[5] = 0x72; // r
  bytes.writeBigUInt64BE(flushed, 6);
  bytes.writeBigUInt64BE(flushed, 14);
  bytes.writeBigUInt64BE(flushed, 22);
  bytes.writeBigInt64BE(BigInt(Date.now() - 946_684_800_000) * 1000n, 30);
  return bytes;
}
