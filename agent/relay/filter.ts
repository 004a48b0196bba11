// Turns the walsender's messages into what the peer gets: own transactions as they are, the peer's own coming back as
// `seen` frames in commit order. Keeps no I/O; what it learns about own transactions it tells to `notes`.
// Must never pass on a transaction that came from the peer, nor lose the relation messages that come inside one.
import type { Buffer } from "node:buffer";
import { ChangeFrame, encodePosition, encodeSeen, headBytes } from "../change/frames.ts";
import type { Lsn } from "../change/lsn.ts";
import {
  askPrefix,
  conflictTable,
  fencePrefix,
  idlePrefix,
  markPrefix,
  originName,
  ownSchema,
  sequencesPrefix,
  verdictPrefix,
} from "../change/marks.ts";
import {
  type Begin,
  checkChange,
  decodeBegin,
  decodeChange,
  decodeCommit,
  DecodeError,
  decodeLogicalMessage,
  decodeOrigin,
  decodeRelation,
  decodeTruncate,
  decodeTuple,
  tag,
} from "../change/pgoutput.ts";
import { keyBytes, rowName, sameKey } from "../change/row_key.ts";

/** What the filter learns on the way. */
export interface Notes {
  commit(xid: number, lsn: Lsn, commitTime: bigint): void;
  /** An own transaction that commits at `lsn` deleted this row (see change/row_key.ts). */
  delete(row: string, lsn: Lsn, commitTime: bigint): void;
  /** An own transaction that commits at `lsn` emptied this table. */
  truncate(schema: string, table: string, lsn: Lsn, commitTime: bigint): void;
  /** A verdict of this node went into the WAL at `lsn`; `content` as the applier wrote it. */
  verdict(content: string, lsn: Lsn): void;
  /** A question of this node's, the same. */
  question(content: string, lsn: Lsn): void;
  /** A mark that this node wrote itself has come by. */
  mark(content: string): void;
  /** Everything before `lsn` has been read; `seen`: it is worth a progress record of the peer's. */
  position(lsn: Lsn, seen: boolean): void;
}

/**
 * The primary key of a table as the catalog has it; null: it has none; undefined: the catalog was read before the table
 * was there.
 */
export type KeysOf = (schema: string, table: string) => readonly string[] | null | undefined;

/** A table of REPLICA IDENTITY FULL whose key must be looked up before the stream can be read any further. */
export class UnknownKey extends Error {
  override name = "UnknownKey";
  constructor(readonly schema: string, readonly table: string) {
    super(`Cannot relay: the key of ${schema}.${table} is not known yet`);
  }
}

interface KnownRelation {
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly string[];
  /** REPLICA IDENTITY FULL: the stream gives old rows whole and does not tell the key. */
  readonly full: boolean;
  /** Places of the columns that name a row, as the stream tells them. */
  readonly keys: readonly number[];
  /** Where the conflict log says who wrote an entry. */
  readonly loggedBy: number;
}

/** `begun`: nothing of the transaction is known yet, or only what hapair wrote for itself. */
type Mode = "outside" | "begun" | "pass" | "drop" | "peer";

export class Filter {
  private mode: Mode = "outside";
  private begin: Begin | null = null;
  private held: ChangeFrame | null = null;
  private peerLsn: Lsn = 0n;
  private idle = false;
  /** The own transaction tells of sequences and does nothing else: it is nobody's work that waits to be sent. */
  private tellsOnly = false;
  private verdicts: string[] = [];
  private questions: string[] = [];
  private readonly relations = new Map<number, KnownRelation>();
  private deletes: string[] = [];
  private truncates: KnownRelation[] = [];

  /**
   * `after`: the peer has every transaction whose commit record starts before it; null = the peer gets nothing now,
   * the stream is only noted. `send` gets frames to pass on, as parts of a chunk. `noteDeletes`: the peer may have changes of its own, so
   * it matters which rows were deleted here, and by which names the applier will ask for them: `keysOf` tells where the
   * stream does not.
   */
  constructor(
    private readonly after: Lsn | null,
    private readonly send: (chunk: Buffer, start: number, end: number) => void,
    private readonly notes: Notes,
    private readonly noteDeletes: boolean,
    private readonly role: string,
    private readonly keysOf: KeysOf,
  ) {}

  /** In the midst of a transaction that is passed on. */
  get passing(): boolean {
    return this.mode === "pass";
  }

  /**
   * Takes the next message of the walsender. Throws DecodeError on a message out of place, UnknownKey where the catalog has
   * to be read again; either ends the session.
   */
  change(frame: ChangeFrame): void {
    switch (frame.tag) {
      case tag.begin:
        this.begin = decodeBegin(frame.message);
        // Held back until the next message tells whether the transaction is the peer's.
        this.held = frame;
        this.mode = "begun";
        return;
      case tag.origin:
        this.startPeer(decodeOrigin(frame.message));
        return;
      case tag.relation:
        this.noteRelation(frame.message);
        this.passRelation(frame);
        return;
      case tag.type:
        this.passRelation(frame);
        return;
      case tag.commit:
        this.endTransaction(frame);
        return;
      case tag.message:
        this.logicalMessage(frame);
        return;
      default:
        this.row(frame);
    }
  }

  /** The same for a row change that was not made a frame of: nearly all that ever comes, and mostly passed on unseen. */
  takeRow(chunk: Buffer, start: number, end: number): void {
    const seen = this.noteDeletes && chunk[start + headBytes] !== tag.insert;
    if (this.mode !== "pass" || seen || this.isInternal(chunk, start + headBytes, end)) {
      return this.row(new ChangeFrame(chunk, start, end));
    }
    this.tellsOnly = false;
    this.send(chunk, start, end);
  }

  /** The walsender's own word on how far it is. */
  keepalive(position: Lsn): void {
    if (this.mode !== "outside") return;
    this.notes.position(position, false);
    if (this.after !== null) this.sendWhole(encodePosition(position));
  }

  private startPeer(origin: { lsn: Lsn; name: string }): void {
    if (this.mode !== "begun") throw new DecodeError("Cannot relay: an origin that is not behind its begin");
    if (origin.name !== originName) return;
    this.mode = "peer";
    this.peerLsn = origin.lsn;
    this.idle = false;
  }

  private startOwn(): void {
    if (this.mode !== "begun" || !this.begin) return;
    const passes = this.after !== null && this.begin.commitLsn >= this.after;
    this.mode = passes ? "pass" : "drop";
    if (passes) this.sendHeld();
  }

  private sendHeld(): void {
    if (this.held) this.sendFrame(this.held);
    this.held = null;
  }

  private sendFrame({ chunk, start, end }: ChangeFrame): void {
    this.send(chunk, start, end);
  }

  private sendWhole(bytes: Buffer): void {
    this.send(bytes, 0, bytes.length);
  }

  /** Relation and type messages come once a session, in whichever transaction needs them first: always passed on. */
  private passRelation(frame: ChangeFrame): void {
    if (this.after !== null) this.sendFrame(frame);
  }

  private noteRelation(message: Buffer): void {
    const { oid, schema, name, columns, replicaIdentity } = decodeRelation(message);
    const keys = columns.flatMap((column, position) => column.key ? [position] : []);
    const names = columns.map((column) => column.name);
    const full = replicaIdentity === "f";
    this.relations.set(oid, { schema, name, columns: names, full, keys, loggedBy: names.indexOf("logged_by") });
  }

  private row(frame: ChangeFrame): void {
    // What hapair writes for this node alone (its state, its progress) is nobody else's business; what an event trigger
    // wrote of it within a transaction of the application neither.
    const internal = frame.tag !== tag.truncate && this.mode !== "outside" &&
      this.isInternal(frame.chunk, frame.at, frame.end);
    if (internal) return;
    this.startOwn();
    if (this.mode === "pass" || this.mode === "drop") {
      this.tellsOnly = false;
      if (this.mode === "pass") this.sendFrame(frame);
      if (this.noteDeletes) this.noteDelete(frame.message);
    } else if (this.mode === "peer" && this.isOwnConflict(frame.message)) this.passOfPeer(frame);
    else if (this.mode === "outside") throw new DecodeError("Cannot relay: a change outside a transaction");
  }

  private isInternal(chunk: Buffer, at: number, end: number): boolean {
    // A chunk may hold more than the message: what is cut short must not be read beyond its end.
    if (end - at < 5) throw new DecodeError("Cannot relay: a change that is cut short");
    const relation = this.relations.get(chunk.readUInt32BE(at + 1));
    return relation?.schema === ownSchema && relation.name !== conflictTable;
  }

  private relationOf(message: Buffer): KnownRelation | undefined {
    if (message.length < 5) throw new DecodeError("Cannot relay: a change that is cut short");
    return this.relations.get(message.readUInt32BE(1));
  }

  /** An entry of the conflict log that this node wrote; one that came from the peer must not go back. */
  private isOwnConflict(message: Buffer): boolean {
    if (message[0] !== tag.insert) return false;
    const relation = this.relationOf(message);
    if (relation?.schema !== ownSchema || relation.name !== conflictTable || relation.loggedBy < 0) return false;
    checkChange(message, relation.columns.length);
    const { start, end } = decodeTuple(message, decodeChange(message).newTuple)[relation.loggedBy];
    return message.toString("utf8", start, end) === this.role;
  }

  /** A key change deletes the row of the old key; a TRUNCATE deletes every row of its tables. */
  private noteDelete(message: Buffer): void {
    if (message[0] === tag.truncate) {
      for (const oid of decodeTruncate(message).relations) {
        const relation = this.relations.get(oid);
        if (relation && relation.schema !== ownSchema) this.truncates.push(relation);
      }
      return;
    }
    if (message[0] !== tag.delete && message[0] !== tag.update) return;
    const { relation: oid, oldTuple, newTuple } = decodeChange(message);
    const relation = this.relations.get(oid);
    if (oldTuple < 0 || !relation) return;
    checkChange(message, relation.columns.length);
    const keys = relation.full ? this.keysOfFull(relation) : relation.keys;
    // With the old row whole there is one for every update.
    if (newTuple >= 0 && sameKey(message, oldTuple, newTuple, keys)) return;
    const key = keyBytes(message, oldTuple, keys);
    if (key !== null) this.deletes.push(rowName(relation.schema, relation.name, key));
  }

  /** As the applier names rows: by the primary key. Rows of a table without one are never asked for by name. */
  private keysOfFull({ schema, name, columns }: KnownRelation): number[] {
    const keys = this.keysOf(schema, name);
    if (keys === undefined) throw new UnknownKey(schema, name);
    return columns.flatMap((column, position) => keys?.includes(column) ? [position] : []);
  }

  /** What this node itself added in a transaction of the peer's: verdicts and the conflict log. */
  private passOfPeer(frame: ChangeFrame): void {
    if (this.after === null || !this.begin || this.begin.commitLsn < this.after) return;
    if (this.held) {
      this.sendSeen();
      this.sendHeld();
    }
    this.sendFrame(frame);
  }

  private logicalMessage(frame: ChangeFrame): void {
    const { prefix, content, transactional } = decodeLogicalMessage(frame.message);
    if (!transactional) return;
    if (prefix === markPrefix) {
      this.notes.mark(content.toString("utf8"));
      return;
    }
    if ((prefix === verdictPrefix || prefix === askPrefix) && this.mode === "peer") {
      (prefix === verdictPrefix ? this.verdicts : this.questions).push(content.toString("utf8"));
      this.passOfPeer(frame);
    } else if (prefix === idlePrefix) this.idle = true;
    else if (prefix === fencePrefix || prefix === sequencesPrefix) {
      // A fence is an empty transaction: when the peer has applied it, it has applied all before it.
      const alone = this.mode === "begun";
      this.startOwn();
      if (alone) this.tellsOnly = prefix === sequencesPrefix;
      if (this.mode === "pass") this.sendFrame(frame);
    }
  }

  private sendSeen(): void {
    if (!this.begin) return;
    this.sendWhole(encodeSeen({ position: this.begin.commitLsn, seen: this.peerLsn, idle: this.idle }));
  }

  private endTransaction(frame: ChangeFrame): void {
    const commit = decodeCommit(frame.message);
    if (this.mode === "outside" || !this.begin) throw new DecodeError("Cannot relay: a commit without a begin");
    if (this.mode === "peer") {
      if (this.after !== null && commit.commitLsn >= this.after) {
        if (this.held) this.sendSeen();
        else this.sendFrame(frame);
      }
      // A version renewed by a verdict counts as written at the end of the verdict's transaction.
      for (const verdict of this.verdicts) this.notes.verdict(verdict, commit.endLsn);
      for (const question of this.questions) this.notes.question(question, commit.endLsn);
      this.verdicts = [];
      this.questions = [];
    } else if (this.mode === "pass" || this.mode === "drop") {
      if (this.mode === "pass") this.sendFrame(frame);
      if (!this.tellsOnly) this.notes.commit(this.begin.xid, commit.endLsn, commit.commitTime);
      for (const row of this.deletes) this.notes.delete(row, commit.endLsn, commit.commitTime);
      for (const { schema, name } of this.truncates) {
        this.notes.truncate(schema, name, commit.endLsn, commit.commitTime);
      }
      this.deletes = [];
      this.truncates = [];
    }
    this.notes.position(commit.endLsn, this.mode === "peer" && !this.idle);
    this.mode = "outside";
    this.tellsOnly = false;
    this.held = null;
    this.begin = null;
  }
}
