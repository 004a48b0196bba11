// Builds pgoutput messages and the frames around them, byte for byte as a walsender sends them. For tests only.
import { Buffer } from "node:buffer";
import { type ChangeFrame, FrameReader } from "../../agent/change/frames.ts";

/** A column of a tuple: null, unchanged, text or bytes. */
export type Value = null | undefined | string | Buffer;

const u8 = (value: number) => Buffer.from([value]);
function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(value);
  return bytes;
}
const text = (value: string) => Buffer.from(value + "\0");
const letter = (value: string) => u8(value.charCodeAt(0));

export const begin = (commitLsn: bigint, xid: number, time = 0n): Buffer =>
  Buffer.concat([letter("B"), u64(commitLsn), u64(time), u32(xid)]);

export const commit = (commitLsn: bigint, endLsn: bigint, time = 0n): Buffer =>
  Buffer.concat([letter("C"), u8(0), u64(commitLsn), u64(endLsn), u64(time)]);

export const origin = (lsn: bigint, name: string): Buffer => Buffer.concat([letter("O"), u64(lsn), text(name)]);

export interface ColumnSpec {
  name: string;
  key?: boolean;
  typeOid?: number;
}

export function relation(oid: number, schema: string, name: string, columns: ColumnSpec[], identity = "d"): Buffer {
  const parts = columns.map((c) => Buffer.concat([u8(c.key ? 1 : 0), text(c.name), u32(c.typeOid ?? 25), u32(0)]));
  return Buffer.concat([
    letter("R"),
    u32(oid),
    text(schema),
    text(name),
    letter(identity),
    u16(columns.length),
    ...parts,
  ]);
}

export const type = (oid: number, schema: string, name: string): Buffer =>
  Buffer.concat([letter("Y"), u32(oid), text(schema), text(name)]);

/** Strings go as text, bytes as binary. */
export function tuple(values: Value[]): Buffer {
  const columns = values.map((value) => {
    if (value === null) return letter("n");
    if (value === undefined) return letter("u");
    const bytes = typeof value === "string" ? Buffer.from(value) : value;
    return Buffer.concat([letter(typeof value === "string" ? "t" : "b"), u32(bytes.length), bytes]);
  });
  return Buffer.concat([u16(values.length), ...columns]);
}

export const insert = (oid: number, row: Value[]): Buffer =>
  Buffer.concat([letter("I"), u32(oid), letter("N"), tuple(row)]);

/** `old`: the tuple that names the row; `kind` K (its key) or O (the whole row). */
export const update = (oid: number, row: Value[], old?: Value[], kind: "K" | "O" = "K"): Buffer =>
  Buffer.concat([letter("U"), u32(oid), ...(old ? [letter(kind), tuple(old)] : []), letter("N"), tuple(row)]);

export const remove = (oid: number, old: Value[], kind: "K" | "O" = "K"): Buffer =>
  Buffer.concat([letter("D"), u32(oid), letter(kind), tuple(old)]);

export const truncate = (oids: number[], options = 0): Buffer =>
  Buffer.concat([letter("T"), u32(oids.length), u8(options), ...oids.map(u32)]);

export const message = (prefix: string, content: string, { transactional = true, lsn = 0n } = {}): Buffer =>
  Buffer.concat([
    letter("M"),
    u8(transactional ? 1 : 0),
    u64(lsn),
    text(prefix),
    u32(Buffer.byteLength(content)),
    Buffer.from(content),
  ]);

const copyData = (body: Buffer): Buffer => Buffer.concat([letter("d"), u32(body.length + 4), body]);

/** XLogData around a message. */
export const xlog = (body: Buffer): Buffer => copyData(Buffer.concat([letter("w"), u64(0n), u64(0n), u64(0n), body]));

export const keepalive = (position: bigint, reply = false): Buffer =>
  copyData(Buffer.concat([letter("k"), u64(position), u64(0n), u8(reply ? 1 : 0)]));

/** The message as the frame that a reader makes of it. */
export function frameOf(body: Buffer): ChangeFrame {
  const [frame] = new FrameReader().read(xlog(body));
  return frame as ChangeFrame;
}
