// When the receiver waits although there is something to apply. A batch takes the same statements for one small transaction
// as for fifty: where they come quickly, some are collected for a moment, which leaves the servers more for the
// application. A backlog fills the batch and never waits, not even for every commit's flush; nor does a slow sequence of
// single transactions. Pure.

/** So many transactions in one batch are a quick succession: at 200 a second a batch has one or two. */
const quick = 8;
/** From one batch to the next, in a quick succession. */
const collectForMs = 20;

export interface Pending {
  /** Transactions of the batch before, and how long ago it was taken. */
  readonly lastTransactions: number;
  readonly sinceTakenMs: number;
  /** There is as much as a batch may hold. */
  readonly full: boolean;
}

/** How long more is collected before the next batch is taken; 0 = it is taken at once. */
export function collectMs({ lastTransactions, sinceTakenMs, full }: Pending): number {
  if (full || lastTransactions < quick) return 0;
  return Math.max(0, collectForMs - sinceTakenMs);
}

/**
 * After a deadlock with the application, `careful` batches are of a single transaction of the peer's. Where the application
 * does not write any more that would only make who waits for the end of the stream wait longer: a switchover, a handback.
 */
export function oneAtATime(careful: number, hasWriters: boolean): boolean {
  return careful > 0 && hasWriters;
}

/** For so long at most a backlog's commits are not told of to the peer, which keeps what it is not told of. */
const unflushedMs = 500;

export interface Committing {
  /** Another transaction is there already. */
  readonly more: boolean;
  /** Since the last commit that waited for the disk. */
  readonly sinceFlushMs: number;
  /** There are changes of this node's own that the peer has not seen. */
  readonly merges: boolean;
}

/**
 * Does this commit wait for the disk? In a backlog it need not, as the peer is told only of what is on the disk, and a later
 * commit that waits puts there all before it. What is decided between two writers always waits.
 */
export function waitsForDisk({ more, sinceFlushMs, merges }: Committing): boolean {
  return merges || !more || sinceFlushMs >= unflushedMs;
}
