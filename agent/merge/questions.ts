// Which rows the secondary has asked the primary about and not had an answer to. What comes about such a row meanwhile is
// left: the answer brings the row whole, as it is after all of that. So nothing is built there upon a row that the
// primary takes for unseen, and nothing is asked twice.
// The answer comes in the first transaction that has seen the question. Rebuilt from the stream after a restart.
import type { Lsn } from "../change/lsn.ts";
import { Renewals } from "./renewals.ts";

export class Questions {
  /** The same order of words: the applier's, its commit, and the stream's, which may lag behind or come once more. */
  private readonly words = new Renewals();

  /** The applier asks about a row, in its open transaction. */
  ask(row: string): void {
    this.words.decide(row, true);
  }

  /** A question of the open transaction is not to be sent. */
  withdraw(row: string): void {
    this.words.withdraw(row);
  }

  committed(): void {
    this.words.committed();
  }

  get undecided(): boolean {
    return this.words.undecided;
  }

  /** The open transaction is gone; whatever did commit has come by in the stream. */
  rolledBack(): void {
    this.words.rolledBack();
  }

  /** A question comes by in the stream, in a transaction that ends at `lsn`. */
  note(row: string, lsn: Lsn): void {
    this.words.note(row, true, lsn);
  }

  /** Is a question about the row open, which a change or a verdict of the peer's that carries `seen` had not seen? */
  isOpen(row: string, seen: Lsn): boolean {
    return this.words.isUnseen(row, seen);
  }

  /** Every question has had its answer. */
  get answered(): boolean {
    return this.words.empty;
  }

  prune(seen: Lsn): void {
    this.words.prune(seen);
  }
}
