// What the secondary does with a verdict of the primary's. Pure. A verdict is about the row as the primary had it when all
// that the verdict had seen of the secondary's was applied there; so only what it had not seen may stand against it.

/** The row here. `pending`: a version, or its deletion, is this node's own and the verdict had not seen it. */
export interface RowUnderVerdict {
  readonly present: boolean;
  readonly pending: boolean;
}

/** `gone`: by the verdict there is no such row. A pending version gets a verdict of its own, or is applied over this one. */
export function carryOut(
  { present, pending }: RowUnderVerdict,
  gone: boolean,
): "skip" | "delete" | "update" | "insert" {
  if (pending) return "skip";
  if (gone) return present ? "delete" : "skip";
  return present ? "update" : "insert";
}

/** A row that the verdict's row cannot stand beside, by a unique or an exclusion constraint. */
export interface InTheWay {
  readonly row: string;
  readonly pending: boolean;
}

export interface Room {
  readonly write: boolean;
  /** Rows to take away first. */
  readonly remove: readonly string[];
  /** Rows that the primary is to be asked about, unless their verdict comes in the same transaction. */
  readonly ask: readonly string[];
}

/**
 * What to do about what keeps the row of a verdict out. A pending version stays: the primary decides about it and is asked
 * for this row once more. Any other that is in the way is not as the primary has it, whatever the reason: it goes, and is
 * asked for. So two rows that have changed places never wait for each other.
 */
export function makeRoom(row: string, inTheWay: readonly InTheWay[]): Room {
  if (inTheWay.some(({ pending }) => pending)) return { write: false, remove: [], ask: [row] };
  const others = inTheWay.map((other) => other.row);
  return { write: true, remove: others, ask: others };
}
