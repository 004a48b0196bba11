// Column by column: what becomes of a row whose columns were changed on both sides, by policy `merge_columns`. Pure.
// Stateless: a column that differs here from what the change found there was changed here, however many edits there were.
import type { Versions } from "./resolve.ts";

/** Column name -> text form; a column that a version does not carry (an unchanged large value) is left out. */
type Image = Readonly<Record<string, string | null>>;

export interface MergedColumns {
  /** The row's columns as they are to be. */
  readonly image: Record<string, string | null>;
  /** Whose changes are in it. */
  readonly kept: "primary" | "secondary" | "both";
  /** One sentence for people. */
  readonly why: string;
}

/**
 * Merges an update of the secondary's (`before` -> `after`) into `here`, the primary's row, which the update had not seen.
 * Of a column changed on both sides the later writer's value stays, the primary's if the times are the same.
 */
export function mergeColumns(before: Image, after: Image, here: Image, versions: Versions): MergedColumns {
  const { primaryTime, secondaryTime } = versions;
  const secondaryIsLater = primaryTime !== null && secondaryTime !== null && secondaryTime > primaryTime;
  const image = { ...here };
  const both: string[] = [];
  let fromPrimary = false, fromSecondary = false;
  for (const name of Object.keys(here)) {
    const base = before[name];
    const theirs = name in after ? after[name] : base;
    const changedHere = here[name] !== base;
    const changedThere = theirs !== base;
    if (changedHere && changedThere && theirs !== here[name]) {
      both.push(name);
      if (secondaryIsLater) image[name] = theirs;
      if (secondaryIsLater) fromSecondary = true;
      else fromPrimary = true;
    } else if (changedThere && !changedHere) {
      image[name] = theirs;
      fromSecondary = true;
    } else if (changedHere) fromPrimary = true;
  }
  const kept = fromPrimary && fromSecondary ? "both" : fromSecondary ? "secondary" : "primary";
  return { image, kept, why: reasonOf(kept, both, secondaryIsLater) };
}

function reasonOf(kept: MergedColumns["kept"], both: string[], secondaryIsLater: boolean): string {
  const merged = kept === "both"
    ? "columns changed on one side only are kept from that side"
    : `all that was changed is as the ${kept} has it`;
  if (both.length === 0) return merged;
  return `${merged}; changed on both: ${both.join(", ")}, where the ${
    secondaryIsLater ? "secondary" : "primary"
  } wrote last`;
}
