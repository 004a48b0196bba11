// Collects the frames of the peer's stream into batches of whole source transactions, or pieces of a very large one.
// Holds what has arrived and is not yet applied, and nothing else; its owner stops the stream when it is full.
import type { Buffer } from "node:buffer";
import { type ChangeFrame, type Frame, headBytes } from "../change/frames.ts";
import type { Lsn } from "../change/lsn.ts";
import {
  type Begin,
  checkChange,
  decodeBegin,
  decodeCommit,
  DecodeError,
  decodeRelation,
  decodeTruncate,
  decodeType,
  type Relation,
  tag,
  type TypeName,
} from "../change/pgoutput.ts";

/** A transaction of the peer's; `endLsn` is 0 while its end has not arrived. `seen`: of our own stream. */
export interface SourceTransaction {
  readonly begin: Begin;
  readonly seen: Lsn;
  endLsn: Lsn;
}

/** A row change, truncate or logical message, with the relation as the peer described it at that point. */
export interface Op {
  readonly message: Buffer;
  /** Where the same bytes lie in what arrived; a slice for every message would cost more than the rest of it. */
  readonly chunk: Buffer;
  readonly at: number;
  readonly end: number;
  readonly relation: Relation | null;
  /** The relations that a truncate empties. */
  readonly truncated: readonly Relation[];
  readonly transaction: SourceTransaction;
}

const none: readonly Relation[] = [];

class ArrivedOp implements Op {
  private slice: Buffer | null = null;

  constructor(
    readonly chunk: Buffer,
    readonly at: number,
    readonly end: number,
    readonly relation: Relation | null,
    readonly truncated: readonly Relation[],
    readonly transaction: SourceTransaction,
  ) {}

  get message(): Buffer {
    return this.slice ??= this.chunk.subarray(this.at, this.end);
  }
}

/** What a change takes up besides its bytes: objects around them, and those of earlier batches not yet collected. */
const opOverheadBytes = 1024;

export interface Batch {
  readonly ops: Op[];
  /** The source transactions that end in this batch, in order. */
  readonly ended: SourceTransaction[];
  /** False for a piece of a transaction that goes on in the next batch. */
  readonly commits: boolean;
  /** How far the peer's stream is applied once this batch is (the peer's LSN), and the last `seen` by then. */
  readonly position: Lsn;
  readonly seen: Lsn;
  /** Nothing but idle progress of the peer's. */
  readonly idle: boolean;
  /**
   * When the latest of `ended` was committed; null if none ends here. That need not be the last of them: what the peer adds
   * to a transaction of ours that it applies has the time of ours.
   */
  readonly committedAt: bigint | null;
}

function latestCommit(ended: readonly SourceTransaction[]): bigint | null {
  let latest: bigint | null = null;
  for (const { begin: { commitTime } } of ended) if (latest === null || commitTime > latest) latest = commitTime;
  return latest;
}

export interface InboxLimits {
  maxOps: number;
  maxBytes: number;
}

export class Inbox {
  /** The peer's names of its own types, for comparing columns. */
  readonly types = new Map<number, TypeName>();
  private readonly relations = new Map<number, Relation>();
  private ops: Op[] = [];
  private bytes = 0;
  private ended: SourceTransaction[] = [];
  /** How many of `ops` belong to transactions that have ended. */
  private endedOps = 0;
  private open: SourceTransaction | null = null;
  private moved = false;
  private idle = true;
  /** The furthest position that the peer has told of; the distance to `position` is what is pending. */
  peerPosition: Lsn = 0n;

  constructor(private position: Lsn, private seen: Lsn, private readonly limits: InboxLimits) {}

  /** Takes a frame. Throws DecodeError when it is out of place, Error when the peer reports a failure. */
  push(frame: Frame): void {
    switch (frame.type) {
      case "change":
        this.change(frame);
        return;
      case "seen":
        if (frame.seen > this.seen) this.seen = frame.seen;
        if (frame.position > this.position && !this.open) this.position = frame.position;
        this.moved = true;
        if (!frame.idle) this.idle = false;
        return;
      case "position":
        if (frame.position > this.peerPosition) this.peerPosition = frame.position;
        return;
      case "failure":
        throw new Error(frame.text);
    }
  }

  /** Takes a row change that was not made a frame of (see FrameReader.read). Throws DecodeError the same. */
  takeRow(chunk: Buffer, start: number, end: number): void {
    if (!this.open) throw new DecodeError("Cannot apply: a change outside a transaction");
    const at = start + headBytes;
    const relation = end - at < 5 ? undefined : this.relations.get(chunk.readUInt32BE(at + 1));
    if (!relation) throw new DecodeError("Cannot apply: a change of a relation that was not described");
    checkChange(chunk, relation.columns.length, at, end);
    this.add(new ArrivedOp(chunk, at, end, relation, none, this.open));
  }

  get full(): boolean {
    return this.ops.length >= this.limits.maxOps || this.bytes >= this.limits.maxBytes;
  }

  /** A whole transaction has arrived that is not taken. */
  get hasWhole(): boolean {
    return this.ended.length > 0;
  }

  /** Nothing has arrived that is not taken. */
  get empty(): boolean {
    return this.open === null && this.ops.length === 0 && this.ended.length === 0;
  }

  /** Is there something to apply now? */
  get ready(): boolean {
    return this.ended.length > 0 || this.full || (this.moved && this.open === null);
  }

  /** How far the peer's stream has arrived in whole transactions. */
  get arrived(): Lsn {
    return this.position;
  }

  /** The next batch, or null when nothing can be applied yet. `one`: of no more than one transaction that has ended. */
  take(one = false): Batch | null {
    if (!this.ready) return null;
    if (one && this.ended.length > 1) return this.takeFirst();
    const commits = this.ended.length > 0 || this.open === null;
    const count = commits ? this.endedOps : this.ops.length;
    const rest = this.ops.slice(count);
    const batch: Batch = {
      ops: count === this.ops.length ? this.ops : this.ops.slice(0, count),
      ended: this.ended,
      commits,
      position: this.position,
      seen: this.endedSeen(),
      idle: this.ended.length === 0 && count === 0 && this.idle,
      committedAt: latestCommit(this.ended),
    };
    this.ops = rest;
    this.bytes = rest.reduce((sum, op) => sum + sizeOf(op), 0);
    this.ended = [];
    this.endedOps = 0;
    this.moved = false;
    this.idle = true;
    return batch;
  }

  private takeFirst(): Batch {
    const first = this.ended.shift()!;
    let count = 0;
    while (count < this.endedOps && this.ops[count].transaction === first) count++;
    const ops = this.ops.splice(0, count);
    this.endedOps -= count;
    for (const op of ops) this.bytes -= sizeOf(op);
    return {
      ops,
      ended: [first],
      commits: true,
      position: first.endLsn,
      seen: first.seen,
      idle: false,
      committedAt: first.begin.commitTime,
    };
  }

  /** A `seen` that came before a transaction still open counts with that transaction, not before. */
  private endedSeen(): Lsn {
    if (!this.open) return this.seen;
    const last = this.ended.at(-1);
    return last ? last.seen : 0n;
  }

  private change(frame: ChangeFrame): void {
    switch (frame.tag) {
      case tag.begin:
        if (this.open) throw new DecodeError("Cannot apply: a transaction begins within another");
        this.open = { begin: decodeBegin(frame.message), seen: this.seen, endLsn: 0n };
        return;
      case tag.commit: {
        if (!this.open) throw new DecodeError("Cannot apply: a commit without a begin");
        const { endLsn } = decodeCommit(frame.message);
        this.open.endLsn = endLsn;
        this.position = endLsn;
        if (endLsn > this.peerPosition) this.peerPosition = endLsn;
        this.ended.push(this.open);
        this.endedOps = this.ops.length;
        this.open = null;
        return;
      }
      case tag.relation: {
        const relation = decodeRelation(frame.message);
        this.relations.set(relation.oid, relation);
        return;
      }
      case tag.type: {
        const type = decodeType(frame.message);
        this.types.set(type.oid, type);
        return;
      }
      case tag.origin:
        return;
      case tag.insert:
      case tag.update:
      case tag.delete:
        this.takeRow(frame.chunk, frame.start, frame.end);
        return;
      default:
        this.other(frame);
    }
  }

  private other(frame: ChangeFrame): void {
    const { tag: kind, chunk, at, end } = frame;
    if (!this.open) {
      if (kind === tag.message) return;
      throw new DecodeError("Cannot apply: a change outside a transaction");
    }
    let truncated = none;
    if (kind === tag.truncate) {
      truncated = decodeTruncate(frame.message).relations.flatMap((oid) => this.relations.get(oid) ?? []);
    } else if (kind !== tag.message) {
      throw new DecodeError(`Cannot apply: unknown message ${kind}`);
    }
    this.add(new ArrivedOp(chunk, at, end, null, truncated, this.open));
  }

  private add(op: ArrivedOp): void {
    this.ops.push(op);
    this.bytes += sizeOf(op);
  }
}

function sizeOf({ at, end }: Op): number {
  return end - at + opOverheadBytes;
}
