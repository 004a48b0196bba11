// The frames of a change stream between the two nodes: PostgreSQL's own CopyData framing, so that what the walsender
// sends is passed on as it is, plus frames of hapair's own ('h'). Bytes only: knows no socket.
// https://www.postgresql.org/docs/current/protocol-replication.html (XLogData)
import { Buffer } from "node:buffer";
import type { Lsn } from "./lsn.ts";
import { DecodeError, tag } from "./pgoutput.ts";

const copyData = 0x64; // d
const errorResponse = 0x45; // E
const xlogData = 0x77; // w
const keepalive = 0x6b; // k
const own = 0x68; // h
const xlogHeaderBytes = 25;
/** A frame's kind and length. */
const headerBytes = 5;
/** What stands before the message: the frame's own header and XLogData's. */
export const headBytes = headerBytes + xlogHeaderBytes;
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

  /** The whole frame, from `start` to `end` of its chunk. */
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

/** Takes a row change (INSERT, UPDATE, DELETE) as the bytes `start` to `end` of `chunk`: the whole frame. */
export type TakeRow = (chunk: Buffer, start: number, end: number) => void;

/** Cuts a stream of chunks into frames; keeps the rest of a chunk until the next one. */
export class FrameReader {
  private parts: Buffer[] = [];
  private partBytes = 0;
  private neededBytes = headerBytes;

  /**
   * Takes a chunk and yields each frame that is whole. With `takeRow` row changes are handed to it instead, in their
   * place in the order: there may be millions of them, and a frame around each would cost more than the rest of it.
   * Throws DecodeError when the stream is not one of frames.
   */
  *read(chunk: Buffer, takeRow?: TakeRow): Generator<Frame> {
    let at = 0;
    if (this.partBytes > 0) {
      at = this.complete(chunk);
      if (this.partBytes < this.neededBytes) return;
      const whole = Buffer.concat(this.parts, this.partBytes);
      this.parts = [];
      this.partBytes = 0;
      if (takeRow && isRow(whole, 0, whole.length)) takeRow(whole, 0, whole.length);
      else {
        const frame = decodeFrame(whole, 0, whole.length);
        if (frame) yield frame;
      }
    }
    while (chunk.length - at >= headerBytes) {
      const start = at;
      const end = start + frameBytes(chunk, start);
      if (end > chunk.length) break;
      at = end;
      if (takeRow && isRow(chunk, start, end)) takeRow(chunk, start, end);
      else {
        const frame = decodeFrame(chunk, start, end);
        if (frame) yield frame;
      }
    }
    if (at < chunk.length) {
      this.neededBytes = chunk.length - at < headerBytes ? headerBytes : frameBytes(chunk, at);
      this.keep(chunk, at, chunk.length);
    }
  }

  /**
   * Adds to the frame that was cut what it needs of the chunk, and tells how much that was: a large row arrives in many
   * chunks, which are joined once, and what comes behind it is left where it is.
   */
  private complete(chunk: Buffer): number {
    let at = 0;
    if (this.partBytes < headerBytes) {
      at = this.keep(chunk, 0, headerBytes - this.partBytes);
      if (this.partBytes < headerBytes) return at;
      this.parts = [Buffer.concat(this.parts, this.partBytes)];
      this.neededBytes = frameBytes(this.parts[0], 0);
    }
    return this.keep(chunk, at, at + this.neededBytes - this.partBytes);
  }

  private keep(chunk: Buffer, from: number, to: number): number {
    const end = Math.min(to, chunk.length);
    if (end > from) this.parts.push(chunk.subarray(from, end));
    this.partBytes += end - from;
    return end;
  }
}

/** Length of the frame whose header is at `at`, header included. */
function frameBytes(chunk: Buffer, at: number): number {
  const length = chunk.readInt32BE(at + 1);
  if (length < 4 || length >= maxFrameBytes) throw new DecodeError(`Cannot read stream: frame of ${length} bytes`);
  return length + 1;
}

function isRow(chunk: Buffer, start: number, end: number): boolean {
  if (end - start <= headBytes || chunk[start] !== copyData || chunk[start + headerBytes] !== xlogData) return false;
  const kind = chunk[start + headBytes];
  return kind === tag.insert || kind === tag.update || kind === tag.delete;
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
