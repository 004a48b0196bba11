// Decodes the messages of PostgreSQL's pgoutput plugin (protocol version 1, binary tuples) from bytes.
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
// Reads bytes only: never touches a socket, never guesses at a message that is cut short.
import type { Buffer } from "node:buffer";
import type { Lsn } from "./lsn.ts";

/** A message that does not follow the protocol; the stream it came from cannot be used any further. */
export class DecodeError extends Error {
  override name = "DecodeError";
}

/** First byte of each message. */
export const tag = {
  begin: 0x42, // B
  commit: 0x43, // C
  origin: 0x4f, // O
  relation: 0x52, // R
  type: 0x59, // Y
  insert: 0x49, // I
  update: 0x55, // U
  delete: 0x44, // D
  truncate: 0x54, // T
  message: 0x4d, // M
} as const;

/** First byte of each column of a tuple. */
export const columnTag = {
  null: 0x6e, // n
  unchanged: 0x75, // u: a TOAST value that the change did not touch
  text: 0x74, // t
  binary: 0x62, // b
} as const;

/** `commitTime` is in microseconds since 2000-01-01 UTC; `commitLsn` is where the commit record starts. */
export interface Begin {
  commitLsn: Lsn;
  commitTime: bigint;
  xid: number;
}

/** `endLsn` is the end of the commit record: the position after the transaction. */
export interface Commit {
  commitLsn: Lsn;
  endLsn: Lsn;
  commitTime: bigint;
}

export interface Origin {
  lsn: Lsn;
  name: string;
}

export interface RelationColumn {
  name: string;
  /** Part of the replica identity. */
  key: boolean;
  typeOid: number;
  typmod: number;
}

export interface Relation {
  oid: number;
  schema: string;
  name: string;
  /** d(efault), n(othing), f(ull), i(ndex). */
  replicaIdentity: string;
  columns: RelationColumn[];
}

export interface TypeName {
  oid: number;
  schema: string;
  name: string;
}

/** What stands before the new tuple of a change: N. */
const newPart = 0x4e;

/** Where the tuples of a change start in its message; -1 = not there. `oldIsKey`: only the key columns are filled. */
export interface Change {
  relation: number;
  oldTuple: number;
  oldIsKey: boolean;
  newTuple: number;
}

export interface Truncate {
  relations: number[];
  cascade: boolean;
  restartIdentity: boolean;
}

export interface LogicalMessage {
  transactional: boolean;
  lsn: Lsn;
  prefix: string;
  content: Buffer;
}

/** A cursor over one message; every read beyond its end is a DecodeError. */
class Cursor {
  constructor(readonly bytes: Buffer, public at: number, private readonly end: number = bytes.length) {}
  private need(count: number): number {
    const at = this.at;
    if (at + count > this.end) throw new DecodeError(`Cannot decode message: it ends at byte ${at}`);
    this.at += count;
    return at;
  }
  // Methods, not fields: a cursor is made for every message.
  uint8(): number {
    return this.bytes[this.need(1)];
  }
  uint16(): number {
    return this.bytes.readUInt16BE(this.need(2));
  }
  uint32(): number {
    return this.bytes.readUInt32BE(this.need(4));
  }
  int32(): number {
    return this.bytes.readInt32BE(this.need(4));
  }
  uint64(): bigint {
    return this.bytes.readBigUInt64BE(this.need(8));
  }
  int64(): bigint {
    return this.bytes.readBigInt64BE(this.need(8));
  }
  text(): string {
    const end = this.bytes.indexOf(0, this.at);
    if (end < 0) throw new DecodeError(`Cannot decode message: a name is not ended`);
    const text = this.bytes.toString("utf8", this.at, end);
    this.at = end + 1;
    return text;
  }
  take(count: number): Buffer {
    const at = this.need(count);
    return this.bytes.subarray(at, at + count);
  }
}

export function decodeBegin(message: Buffer): Begin {
  const cursor = new Cursor(message, 1);
  return { commitLsn: cursor.uint64(), commitTime: cursor.int64(), xid: cursor.uint32() };
}

export function decodeCommit(message: Buffer): Commit {
  const cursor = new Cursor(message, 2);
  return { commitLsn: cursor.uint64(), endLsn: cursor.uint64(), commitTime: cursor.int64() };
}

export function decodeOrigin(message: Buffer): Origin {
  const cursor = new Cursor(message, 1);
  return { lsn: cursor.uint64(), name: cursor.text() };
}

export function decodeRelation(message: Buffer): Relation {
  const cursor = new Cursor(message, 1);
  const oid = cursor.uint32();
  // An empty namespace stands for pg_catalog.
  const schema = cursor.text() || "pg_catalog";
  const name = cursor.text();
  const replicaIdentity = String.fromCharCode(cursor.uint8());
  const columns: RelationColumn[] = [];
  for (let left = cursor.uint16(); left > 0; left--) {
    const flags = cursor.uint8();
    columns.push({
      key: (flags & 1) === 1,
      name: cursor.text(),
      typeOid: cursor.uint32(),
      typmod: cursor.int32(),
    });
  }
  return { oid, schema, name, replicaIdentity, columns };
}

export function decodeType(message: Buffer): TypeName {
  const cursor = new Cursor(message, 1);
  return { oid: cursor.uint32(), schema: cursor.text() || "pg_catalog", name: cursor.text() };
}

/**
 * Decodes where the tuples of an insert, update or delete are; the tuples themselves stay bytes. The message may lie among
 * others, from `at` to `end`; the offsets are those in `message`.
 */
export function decodeChange(message: Buffer, at = 0, end: number = message.length): Change {
  const kind = message[at];
  // An insert, or an update without its old version: most changes by far.
  if (message[at + 5] === newPart && at + 6 < end) {
    return { relation: message.readUInt32BE(at + 1), oldTuple: -1, oldIsKey: false, newTuple: at + 6 };
  }
  const cursor = new Cursor(message, at + 1, end);
  const relation = cursor.uint32();
  const change: Change = { relation, oldTuple: -1, oldIsKey: false, newTuple: -1 };
  let part = cursor.uint8();
  if (part === 0x4b || part === 0x4f) { // K, O
    change.oldIsKey = part === 0x4b;
    change.oldTuple = cursor.at;
    if (kind === tag.delete) return change;
    cursor.at = skipTuple(message, cursor.at, end);
    part = cursor.uint8();
  }
  if (part !== newPart) throw new DecodeError(`Cannot decode message: unknown part ${part} of a change`); // N
  change.newTuple = cursor.at;
  return change;
}

/**
 * Throws DecodeError unless an insert, update or delete is whole and its tuples have exactly so many columns. The message
 * may lie among others, from `start` to `end`.
 */
export function checkChange(message: Buffer, columns: number, start = 0, end: number = message.length): void {
  const kind = message[start];
  let at = start + 5;
  let part = message[at++];
  if (part === 0x4b || part === 0x4f) { // K, O
    at = skipColumns(message, at, end, columns);
    if (kind === tag.delete) return checkEnd(at, end);
    part = message[at++];
  }
  if (at > end || part !== newPart || kind === tag.delete) {
    throw new DecodeError("Cannot decode message: a change without the tuple that it needs");
  }
  checkEnd(skipColumns(message, at, end, columns), end);
}

function skipColumns(message: Buffer, at: number, end: number, columns: number): number {
  if (at + 2 > end || message.readUInt16BE(at) !== columns) {
    throw new DecodeError(`Cannot decode message: not a tuple of ${columns} columns`);
  }
  at += 2;
  for (let left = columns; left > 0; left--) {
    const kind = message[at++];
    if (kind === columnTag.binary || kind === columnTag.text) {
      at += at + 4 > end ? end : 4 + message.readUInt32BE(at);
      if (at > end) throw new DecodeError("Cannot decode message: a column goes beyond its end");
    } else if (kind !== columnTag.null && kind !== columnTag.unchanged) {
      throw new DecodeError(`Cannot decode message: unknown column kind ${kind}`);
    }
  }
  return at;
}

function checkEnd(at: number, end: number): void {
  if (at !== end) throw new DecodeError("Cannot decode message: something follows after a change");
}

export function decodeTruncate(message: Buffer): Truncate {
  const cursor = new Cursor(message, 1);
  const count = cursor.uint32();
  const options = cursor.uint8();
  if (count * 4 > message.length) throw new DecodeError(`Cannot decode message: ${count} relations in a truncate`);
  const relations = Array.from({ length: count }, () => cursor.uint32());
  return { relations, cascade: (options & 1) === 1, restartIdentity: (options & 2) === 2 };
}

export function decodeLogicalMessage(message: Buffer): LogicalMessage {
  const cursor = new Cursor(message, 1);
  const flags = cursor.uint8();
  const lsn = cursor.uint64();
  const prefix = cursor.text();
  return { transactional: (flags & 1) === 1, lsn, prefix, content: cursor.take(cursor.uint32()) };
}

/** Steps over a tuple; returns the offset behind it. Checks that every column lies within the message. */
export function skipTuple(message: Buffer, at: number, end: number = message.length): number {
  const cursor = new Cursor(message, at, end);
  for (let left = cursor.uint16(); left > 0; left--) {
    const kind = cursor.uint8();
    if (kind === columnTag.binary || kind === columnTag.text) {
      const length = cursor.uint32();
      cursor.at += length;
      if (cursor.at > end) throw new DecodeError(`Cannot decode message: a column goes beyond its end`);
    } else if (kind !== columnTag.null && kind !== columnTag.unchanged) {
      throw new DecodeError(`Cannot decode message: unknown column kind ${kind}`);
    }
  }
  return cursor.at;
}

/** One column of a tuple: its kind, and where its bytes are. */
export interface ColumnBytes {
  kind: number;
  start: number;
  end: number;
}

/** Decodes the places of a tuple's columns. */
export function decodeTuple(message: Buffer, at: number): ColumnBytes[] {
  const end = skipTuple(message, at);
  const columns: ColumnBytes[] = [];
  for (let offset = at + 2; offset < end;) {
    const kind = message[offset++];
    if (kind === columnTag.binary || kind === columnTag.text) {
      const length = message.readUInt32BE(offset);
      columns.push({ kind, start: offset + 4, end: offset + 4 + length });
      offset += 4 + length;
    } else {
      columns.push({ kind, start: offset, end: offset });
    }
  }
  return columns;
}

/** Milliseconds since 1970 of a PostgreSQL time (microseconds since 2000-01-01). */
export function timeToMs(postgresTime: bigint): number {
  return Number(postgresTime) / 1000 + 946_684_800_000;
}
