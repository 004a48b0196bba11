// What the applier asks about this node's own changes. Answered by the capture, from the history of the node's own WAL.
import type { Word } from "../merge/answers.ts";
import type { Writer } from "../merge/history.ts";

export interface OwnChanges {
  /** Is this own version one that a change carrying `seen` had not seen? */
  readonly isUnseen: (writer: Writer, seen: bigint) => boolean;
  /** Had that change's writer not yet seen the verdict that renewed the row? */
  readonly verdictUnseen: (row: string, seen: bigint) => boolean;
  /** The names of renewed rows of which that is so; `prefix`: what they begin with. */
  readonly renewedRows: (prefix: string, seen: bigint) => string[];
  /** When the primary's part of a row that a verdict has merged was written; null where that is the row's own time. */
  readonly renewedTime: (row: string) => bigint | null;
  /** The last verdict about the row, of whatever kind, unless that change's writer had seen it. */
  readonly lastVerdict: (row: string, seen: bigint) => Word | null;
  /** Has the primary been asked about the row, and had that change or verdict not seen the question? */
  readonly askedAbout: (row: string, seen: bigint) => boolean;
  /** A question was written; it counts as a verdict does. */
  readonly noteQuestion: (row: string) => void;
  readonly withdrawQuestion: (row: string) => void;
  /** No own transaction that a change carrying `seen` had not seen has a lower xid (32 bits). */
  readonly horizon: (seen: bigint) => number;
  /** When was the row deleted here, unseen? Waits as allKnown does. */
  readonly deletedUnseen: (row: string, seen: bigint) => Promise<bigint | null>;
  /** The same of the transactions that are known already. */
  readonly knownDeleted: (row: string, seen: bigint) => bigint | null;
  /**
   * Resolves when every transaction committed by now is known. At the primary it does not wait for long: false if not all
   * is known yet.
   */
  readonly allKnown: () => Promise<boolean>;
  /** A verdict was written; it counts from the end of the current transaction on. */
  readonly noteVerdict: (row: string, renews: boolean, time: bigint | null) => void;
  /** The decision about this row is given up, and its transaction goes on. */
  readonly withdrawVerdict: (row: string) => void;
  readonly verdictsCommitted: () => void;
  /** The transaction of the verdicts and questions noted last was given up, or its end is not known. */
  readonly verdictsRolledBack: () => Promise<void>;
}
