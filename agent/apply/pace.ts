// When the receiver waits although there is something to apply. A batch takes the same statements for one small transaction
// as for fifty: where they come quickly, some are collected for a moment, which leaves the servers more for the
// application. A backlog fills the batch and never waits; nor does a slow sequence of single transactions. Pure.

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
