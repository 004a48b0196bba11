// What the primary answers when the secondary asks about a row of which a change or a verdict could not be applied there.
// Pure. Every question gets its answer, in the transaction that has seen it: the secondary leaves the row alone until then.

/** What a verdict says of a row beside the row itself. */
export interface Word {
  /** The row counts as written by the primary at the verdict. */
  readonly renews: boolean;
  /** When the primary's part of a merged row was written; null: that is the row's own time. */
  readonly time: bigint | null;
}

/**
 * `row`: as the primary has it now, null if it has none; `own`: written by its application. `asked`: what the verdict said
 * that could not be applied, if it was one. `out`: the last verdict about the row that the question had not seen.
 */
export function answer(row: { readonly own: boolean } | null, asked: Word, out: Word | null): Word {
  if (row === null) return { renews: false, time: null };
  if (row.own) return { renews: true, time: null };
  return out ?? asked;
}
