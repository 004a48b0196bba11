// Reads this node's slot and gives the peer its change stream. While nobody pulls, it reads on all the same and only
// notes, so that the history of own transactions is whole and the pending figures are true.
// Never confirms a position that the peer has not acknowledged.
import type { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import { FrameReader, type TakeRow } from "../change/frames.ts";
import type { Lsn } from "../change/lsn.ts";
import { reason } from "../errors.ts";
import type { Session } from "../wal/session.ts";
import { Filter, type Notes, UnknownKey } from "./filter.ts";
import { Outbox } from "./outbox.ts";
import { Pace, rests } from "./pace.ts";
import { type KeyCatalog, RowKeys } from "./row_keys.ts";

/** Where frames go; `write` answers false when the receiver is behind, `onDrain` is called when it has caught up. */
export interface Sink {
  write(frames: Buffer): boolean;
  onDrain(listener: () => void): void;
  end(): void;
}

/** The history of own transactions, as the relay fills it. */
export interface Ledger {
  noteCommit(xid: number, lsn: Lsn, commitTime: bigint): void;
  noteVerdict(content: string, lsn: Lsn): void;
  noteQuestion(content: string, lsn: Lsn): void;
  noteDelete(row: string, lsn: Lsn, commitTime: bigint): void;
  noteTruncate(schema: string, table: string, lsn: Lsn, commitTime: bigint): void;
  prune(seen: Lsn): void;
}

export interface RelayDeps {
  /** This node's role. */
  readonly role: string;
  openSession(confirmed: Lsn, onChunk: (chunk: Buffer) => void): Promise<Session>;
  /** Takes a snapshot, then commits a mark with this text; resolves to what makes the snapshot count once it passed. */
  mark(text: string): Promise<() => void>;
  ledger: Ledger;
  /** The primary keys of this node's tables as they are now. */
  readKeys(): Promise<KeyCatalog>;
  /** May the peer have changes of its own that we have not applied? */
  peerMayWrite(): boolean;
  /** Told when reading the slot fails; the relay tries again by itself. */
  onFailure(message: string): void;
  /** Told of each piece that was read: whatever failed before works again. */
  onRead(): void;
}

const retryMs = 500;
/** So much is worth a write, whatever follows. Less goes out when its transaction has ended, but not sooner after another. */
const writeBytes = 64 * 1024;
const writeEveryMs = 1;
/**
 * So much is read ahead of a receiver that is behind, and handed to it in pieces of so much: it takes a batch at a time,
 * and while it applies one the walsender need not stand still. More makes nothing faster, and costs the process several
 * times as much memory.
 */
const aheadBytes = 6 * 1024 * 1024;
const pieceBytes = 256 * 1024;

export class Relay {
  private session: Session | null = null;
  private reader: Promise<void> = Promise.resolve();
  private stopped = false;
  private serving: AbortController | null = null;
  private acknowledged: Lsn = 0n;
  /** End of the last transaction of the peer's that it should have recorded as progress before we confirm beyond it. */
  private lastSeenPosition: Lsn = 0n;
  private lastOwnPosition: Lsn = 0n;
  private peerProgress: Lsn = 0n;
  private idlePosition: Lsn = 0n;
  private readonly marks = new Map<string, () => void>();
  /** Told of each session that begins. */
  private readonly begun = new Set<() => void>();
  private readonly rowKeys: RowKeys;

  constructor(private readonly deps: RelayDeps) {
    this.rowKeys = new RowKeys(() => deps.readKeys());
  }

  /** Starts reading; resolves at once. */
  start(): void {
    this.stopped = false;
    this.reader = this.noteUntilPulled();
  }

  /** Ends the peer's stream and the reading; resolves when the slot is free. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.serving?.abort();
    await this.session?.close();
    await this.reader.catch(() => undefined);
  }

  /** The peer has durably applied our stream up to `lsn`, and all it committed before that has been merged here. */
  acknowledge(lsn: Lsn): void {
    if (lsn <= this.acknowledged) return;
    this.acknowledged = lsn;
    this.deps.ledger.prune(lsn);
    this.confirm();
  }

  /** How far the peer's durable progress goes; idle WAL up to the stream's end may then be let go. */
  notePeerProgress(lsn: Lsn): void {
    if (lsn > this.peerProgress) this.peerProgress = lsn;
    this.confirm();
  }

  /**
   * Resolves when every transaction committed before this call has been noted. For each session that begins meanwhile there
   * is another mark: the slot may have been made anew (for a new pack), and then it never had the first.
   */
  async noted(): Promise<void> {
    const texts: string[] = [];
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const mark = () => {
      const text = randomUUID();
      texts.push(text);
      this.markPassed(text).then(resolve, reject);
    };
    this.begun.add(mark);
    mark();
    try {
      await promise;
    } finally {
      this.begun.delete(mark);
      for (const text of texts) this.marks.delete(text);
    }
  }

  private async markPassed(text: string): Promise<void> {
    const passed = new Promise<void>((resolve) => this.marks.set(text, resolve));
    const adopt = await this.deps.mark(text);
    await passed;
    adopt();
  }

  /** Reads the tables' keys again: call it now and then, as keys are added to tables. */
  async renewKeys(): Promise<void> {
    if (this.deps.peerMayWrite()) await this.rowKeys.refresh();
  }

  /**
   * Streams to the peer every own transaction whose commit record starts at or after `after`, until `signal` aborts or
   * the slot's session ends. A newer pull replaces an older one.
   */
  async serve(after: Lsn, sink: Sink, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return sink.end();
    this.serving?.abort();
    const own = new AbortController();
    this.serving = own;
    const abort = () => own.abort();
    signal.addEventListener("abort", abort);
    // The reader that only notes gives way; it comes back by itself when this stream has ended.
    await this.session?.close();
    // What an earlier pull failed of is its own affair.
    await this.reader.catch(() => undefined);
    try {
      if (!own.signal.aborted && !this.stopped) await (this.reader = this.read(after, sink, own.signal));
    } finally {
      signal.removeEventListener("abort", abort);
      sink.end();
      if (this.serving === own) {
        this.serving = null;
        if (!this.stopped) this.reader = this.noteUntilPulled();
      }
    }
  }

  private async noteUntilPulled(): Promise<void> {
    while (!this.stopped && !this.serving) {
      try {
        await this.read(null, null, null);
      } catch (error) {
        this.deps.onFailure(reason(error));
      }
      if (!this.stopped && !this.serving) await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  /**
   * One session of the slot, until it ends; throws when it ended by a failure. It ends by itself where a key has to be
   * looked up: the next one goes on from there.
   */
  private async read(after: Lsn | null, sink: Sink | null, signal: AbortSignal | null): Promise<void> {
    const noteDeletes = this.deps.peerMayWrite();
    if (noteDeletes) await this.rowKeys.refresh();
    const frames = new FrameReader();
    let session: Session | null = null;
    const out = new Outbox();
    const pace = new Pace();
    let written = 0;
    let later: ReturnType<typeof setTimeout> | null = null;
    let resting: ReturnType<typeof setTimeout> | null = null;
    let failure: Error | null = null;
    let behind = false;
    let paused = false;
    const filter = new Filter(
      after,
      (chunk, start, end) => out.add(chunk, start, end),
      this.notes(),
      noteDeletes,
      this.deps.role,
      this.rowKeys.of,
    );
    const write = () => {
      if (later) clearTimeout(later);
      later = null;
      if (!sink) return;
      while (out.bytes > 0 && !behind) {
        written = performance.now();
        behind = !sink.write(out.take(pieceBytes));
      }
    };
    const rest = (now: number, messages: number) => {
      const ms = pace.rest(now, messages);
      if (ms === 0 || paused || resting) return;
      if (ms < rests.timer) return nap(ms);
      session?.pause();
      resting = setTimeout(() => {
        resting = null;
        if (!paused) session?.resume();
      }, ms);
    };
    let messages = 0;
    const takeRow: TakeRow = (chunk, start, end) => {
      messages++;
      filter.takeRow(chunk, start, end);
    };
    const onChunk = (chunk: Buffer) => {
      if (failure) return;
      messages = 0;
      try {
        for (const frame of frames.read(chunk, takeRow)) {
          messages++;
          if (frame.type === "change") filter.change(frame);
          else if (frame.type === "position") filter.keepalive(frame.position);
          else if (frame.type === "failure") throw new Error(frame.text);
        }
      } catch (error) {
        failure = error instanceof Error ? error : new Error(reason(error));
        void session?.close();
        return;
      }
      this.deps.onRead();
      const now = performance.now();
      // The walsender sends change by change; a few of a transaction that goes on are not worth a write.
      if (out.bytes >= writeBytes) write();
      else if (out.bytes > 0 && !filter.passing && !behind) {
        if (now - written >= writeEveryMs) write();
        else later ??= setTimeout(write, writeEveryMs);
      }
      if (behind && out.bytes >= aheadBytes) {
        paused = true;
        session?.pause();
      }
      rest(now, messages);
    };
    sink?.onDrain(() => {
      behind = false;
      write();
      if (!paused || (behind && out.bytes >= aheadBytes)) return;
      paused = false;
      if (!resting) session?.resume();
    });
    session = await this.deps.openSession(this.acknowledged, onChunk);
    if (paused) session.pause();
    this.session = session;
    for (const tell of this.begun) tell();
    const close = () => void session?.close();
    signal?.addEventListener("abort", close);
    if (failure || this.stopped || signal?.aborted || (!sink && this.serving)) close();
    const ended = await session.ended;
    if (later) clearTimeout(later);
    if (resting) clearTimeout(resting);
    signal?.removeEventListener("abort", close);
    // Nobody can read it again where the server has died: what was read of it goes out all the same.
    if (sink && !signal?.aborted) { while (out.bytes > 0) sink.write(out.take(pieceBytes)); }
    if (this.session === session) this.session = null;
    if (asked(failure)) return this.rowKeys.miss(failure);
    if (failure ?? ended) throw failure ?? ended;
  }

  private notes(): Notes {
    const { ledger } = this.deps;
    return {
      commit: (xid, lsn, commitTime) => {
        if (lsn <= this.acknowledged) return;
        this.lastOwnPosition = lsn;
        ledger.noteCommit(xid, lsn, commitTime);
      },
      delete: (row, lsn, commitTime) => {
        if (lsn > this.acknowledged) ledger.noteDelete(row, lsn, commitTime);
      },
      truncate: (schema, table, lsn, commitTime) => {
        if (lsn > this.acknowledged) ledger.noteTruncate(schema, table, lsn, commitTime);
      },
      verdict: (content, lsn) => ledger.noteVerdict(content, lsn),
      question: (content, lsn) => ledger.noteQuestion(content, lsn),
      mark: (text) => {
        this.marks.get(text)?.();
        this.marks.delete(text);
      },
      position: (lsn, seen) => {
        if (seen) this.lastSeenPosition = lsn;
        this.idlePosition = lsn;
      },
    };
  }

  private confirm(): void {
    // Nothing of ours waits and the peer has recorded what it has seen: WAL of no concern to it need not be kept.
    const idle = this.serving && this.lastOwnPosition <= this.acknowledged &&
      this.lastSeenPosition <= this.peerProgress;
    const position = idle && this.idlePosition > this.acknowledged ? this.idlePosition : this.acknowledged;
    this.session?.confirm(position);
  }
}

const never = new Int32Array(new SharedArrayBuffer(4));

/** Holds up the whole process, for less than a timer could: nothing in it is worth more while a flood is read. */
function nap(ms: number): void {
  Atomics.wait(never, 0, 0, ms);
}

// A function of its own: the compiler takes a variable that only a callback sets for what it was at first.
const asked = (failure: Error | null): failure is UnknownKey => failure instanceof UnknownKey;
