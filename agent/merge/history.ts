// What this node's own transactions are known by: xid and commit time -> where they stand in its own stream. From it
// follows, exactly and without clocks, whether a version of a row had been seen by a change of the peer.
// Rebuilt from the WAL after a restart; never written anywhere. 32 bytes a transaction that the peer has not seen.
import type { Lsn } from "../change/lsn.ts";
import { Questions } from "./questions.ts";
import { Renewals } from "./renewals.ts";

const chunkSize = 4096;

/** What a session of PostgreSQL saw as committed, as `pg_current_snapshot()` gives it, and when (µs since 2000). */
export interface Snapshot {
  xmin: number;
  xmax: number;
  running: ReadonlySet<number>;
  takenAt: bigint;
}

/** Parses `xmin:xmax:xid,xid,...` (64-bit xids). */
export function parseSnapshot(text: string, takenAt: bigint): Snapshot {
  const [xmin, xmax, running] = text.split(":");
  return {
    xmin: Number(xmin),
    xmax: Number(xmax),
    running: new Set(running ? running.split(",").map(Number) : []),
    takenAt,
  };
}

interface Chunk {
  lsns: Float64Array;
  times: Float64Array;
  highestLsn: number;
  firstTime: number;
  lastTime: number;
}

/** A row version's writer: `xid` as the row's xmin gives it (32 bits), its commit time (µs since 2000). */
export interface Writer {
  xid: number;
  commitTime: bigint;
}

export class History {
  private readonly chunks = new Map<number, Chunk>();
  private snapshot: Snapshot;
  private pendingLsns: number[] = [];
  private pendingTimes: number[] = [];
  private firstPending = 0;
  readonly renewals = new Renewals();
  readonly questions = new Questions();
  private readonly deletes = new Map<string, { lsn: number; time: bigint }>();
  /** By `schema\0table`: what a row's name begins with. */
  private readonly truncates = new Map<string, { lsn: number; time: bigint }>();

  /** `snapshot` is taken before the stream is read up to the position of that moment. */
  constructor(snapshot: Snapshot) {
    this.snapshot = snapshot;
  }

  /** A later snapshot: all that it shows as committed has been noted, or had been seen before. */
  renewSnapshot(snapshot: Snapshot): void {
    this.snapshot = snapshot;
  }

  /** Notes an own transaction as the stream brings it, in commit order. Noting one again changes nothing. */
  noteCommit(xid: number, lsn: Lsn, commitTime: bigint): void {
    const position = Number(lsn);
    const full = this.fullXid(xid);
    const number = Math.floor(full / chunkSize);
    let chunk = this.chunks.get(number);
    if (!chunk) {
      chunk = {
        lsns: new Float64Array(chunkSize),
        times: new Float64Array(chunkSize),
        highestLsn: 0,
        firstTime: Infinity,
        lastTime: -Infinity,
      };
      this.chunks.set(number, chunk);
    }
    const known = chunk.lsns[full % chunkSize] === position;
    chunk.lsns[full % chunkSize] = position;
    chunk.times[full % chunkSize] = Number(commitTime);
    chunk.highestLsn = Math.max(chunk.highestLsn, position);
    chunk.firstTime = Math.min(chunk.firstTime, Number(commitTime));
    chunk.lastTime = Math.max(chunk.lastTime, Number(commitTime));
    if (known) return;
    this.pendingLsns.push(position);
    this.pendingTimes.push(Number(commitTime));
  }

  /** Notes that an own transaction deleted the row of this name (see change/row_key.ts). */
  noteDelete(row: string, lsn: Lsn, time: bigint): void {
    this.deletes.delete(row); // so that the map stays in commit order
    this.deletes.set(row, { lsn: Number(lsn), time });
  }

  /** Notes that an own transaction emptied this table by TRUNCATE. */
  noteTruncate(schema: string, table: string, lsn: Lsn, time: bigint): void {
    this.truncates.set(`${schema}\0${table}`, { lsn: Number(lsn), time });
  }

  /**
   * When an own transaction deleted the row, by itself or with its whole table, unseen by a peer's change that carries
   * `seen`; null if none did. Of several the last counts.
   */
  deletedUnseen(row: string, seen: Lsn): bigint | null {
    const alone = this.deletes.get(row);
    // The name of the row's table ends at the second of its zeros (see change/row_key.ts).
    const table = this.truncates.size === 0 ? "" : row.slice(0, row.indexOf("\0", row.indexOf("\0") + 1));
    const whole = this.truncates.get(table);
    const limit = Number(seen);
    const deleted = alone && alone.lsn > limit ? alone.time : null;
    if (!whole || whole.lsn <= limit) return deleted;
    return deleted !== null && deleted > whole.time ? deleted : whole.time;
  }

  /** Is this own version one that a peer's change carrying `seen` had not seen? */
  isUnseen(writer: Writer, seen: Lsn): boolean {
    const full = this.fullXid(writer.xid);
    const noted = this.chunks.get(Math.floor(full / chunkSize))?.lsns[full % chunkSize];
    if (noted) return noted > Number(seen);
    // A subtransaction writes rows under an xid that the stream does not tell; its commit time is its parent's.
    const parentLsn = this.lsnByTime(full, Number(writer.commitTime));
    if (parentLsn) return parentLsn > Number(seen);
    const { xmin, xmax, running, takenAt } = this.snapshot;
    if (full < xmin) return false;
    return full >= xmax || running.has(full) || writer.commitTime > takenAt;
  }

  /**
   * A lower bound, as a row's xmin gives it (32 bits), of the xids of own transactions that a peer's change carrying
   * `seen` had not seen.
   */
  horizon(seen: Lsn): number {
    let lowest = this.snapshot.xmin;
    for (const [number, { highestLsn }] of this.chunks) {
      if (highestLsn > Number(seen)) lowest = Math.min(lowest, number * chunkSize);
    }
    // 0 to 2 are no transactions' xids.
    return Math.max(lowest % 2 ** 32, 3);
  }

  /** Forgets what the peer has seen: everything up to `seen`. */
  prune(seen: Lsn): void {
    const limit = Number(seen);
    while (this.firstPending < this.pendingLsns.length && this.pendingLsns[this.firstPending] <= limit) {
      this.firstPending++;
    }
    if (this.firstPending > 4096 && this.firstPending * 2 > this.pendingLsns.length) {
      this.pendingLsns = this.pendingLsns.slice(this.firstPending);
      this.pendingTimes = this.pendingTimes.slice(this.firstPending);
      this.firstPending = 0;
    }
    for (const [number, chunk] of this.chunks) {
      // Below the snapshot's xmin an xid that is not noted counts as seen; above it the notes are still needed.
      if (chunk.highestLsn > limit || (number + 1) * chunkSize > this.snapshot.xmin) continue;
      this.chunks.delete(number);
    }
    for (const [row, { lsn }] of this.deletes) {
      if (lsn > limit) break; // noted in commit order
      this.deletes.delete(row);
    }
    for (const [table, { lsn }] of this.truncates) if (lsn <= limit) this.truncates.delete(table);
    this.renewals.prune(seen);
    this.questions.prune(seen);
  }

  /** Own transactions that the peer has not confirmed, and when the oldest committed (µs since 2000). */
  pending(): { transactions: number; oldest: bigint | null } {
    const transactions = this.pendingLsns.length - this.firstPending;
    return { transactions, oldest: transactions > 0 ? BigInt(this.pendingTimes[this.firstPending]) : null };
  }

  /**
   * The position of the transaction below `full` that committed at `time`; 0 = none is noted. There may be any number of
   * xids between the two; of several that committed in the same microsecond the last counts, so that none is overlooked.
   */
  private lsnByTime(full: number, time: number): number {
    let lsn = 0;
    for (const [number, { lsns, times, firstTime, lastTime }] of this.chunks) {
      if (number * chunkSize > full || time < firstTime || time > lastTime) continue;
      for (let at = times.indexOf(time); at >= 0; at = times.indexOf(time, at + 1)) {
        if (number * chunkSize + at < full) lsn = Math.max(lsn, lsns[at]);
      }
    }
    return lsn;
  }

  /** The 64-bit form of an xid, which lies within 2^31 of the snapshot. */
  private fullXid(xid: number): number {
    const epoch = Math.floor(this.snapshot.xmax / 2 ** 32) * 2 ** 32;
    const full = epoch + xid;
    if (full > this.snapshot.xmax + 2 ** 31) return full - 2 ** 32;
    if (full < this.snapshot.xmax - 2 ** 31) return full + 2 ** 32;
    return full;
  }
}
