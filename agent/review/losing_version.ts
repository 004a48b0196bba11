// Which version of a conflict lost, and what is to be done to put it back where the row is now. Pure: the decisions of
// `agent conflicts restore`, which never writes over what somebody has written since without being told to.
import { UsageError } from "../errors.ts";
import type { ConflictEntry, Image, Role } from "./entry.ts";

export interface Loser {
  readonly side: Role;
  /** null: the version that lost was a delete. */
  readonly row: Image | null;
  /** The other side's version. */
  readonly against: Image | null;
  /** What stands is the other side's version as it is on record, and not something of both. */
  readonly overruled: boolean;
}

/** `side`: whose version is asked for, where the entry alone does not tell. Throws UsageError where it has to be said. */
export function losingVersion(entry: ConflictEntry, side: Role | null): Loser {
  const { id, winner, quarantined, primary_row, secondary_row } = entry;
  const of = (loser: Role): Loser => ({
    side: loser,
    row: loser === "primary" ? primary_row : secondary_row,
    against: loser === "primary" ? secondary_row : primary_row,
    overruled: winner !== "both",
  });
  if (winner === "primary" || winner === "secondary") {
    if (side === winner) {
      throw new UsageError(
        `Cannot restore conflict ${id}: the ${side}'s version is the one that won`,
        "leave --side out",
      );
    }
    return of(winner === "primary" ? "secondary" : "primary");
  }
  if (side !== null) return of(side);
  if (quarantined && (primary_row === null) !== (secondary_row === null)) {
    return of(primary_row === null ? "secondary" : "primary");
  }
  throw new UsageError(
    `Cannot restore conflict ${id}: neither version has lost as a whole`,
    `agent conflicts show ${id}, then say which: --side primary or --side secondary`,
  );
}

/** The row as it stands in its table. */
export interface Standing {
  readonly image: Image;
  /** When it was written; null if that is not known any more. */
  readonly writtenAt: bigint | null;
}

export type Act =
  | { readonly do: "insert" | "delete" | "nothing" }
  | { readonly do: "update"; readonly newKey: boolean };

export interface Decision {
  readonly act: Act;
  /** Why it is refused if nobody insists; null if the row is as the verdict left it. */
  readonly changed: string | null;
}

/**
 * `here`: the row of the conflict as it is now. `keys`: the columns of its table's key; none where a row is known by all
 * its values. `decidedAt`: when the conflict was decided, in the units of `writtenAt`.
 */
export function decide(
  loser: Loser,
  here: Standing | null,
  keys: readonly string[],
  decidedAt: bigint,
): Decision {
  const { row, against, overruled } = loser;
  const act = actOf(row, here, keys);
  // The other version may be of another row, which had a value that both cannot have.
  const ofThisRow = against !== null && (row === null || same(against, row, keys) || sameAsHere(against, here, keys));
  const expected = overruled && ofThisRow ? against : null;
  if (here === null) {
    const gone = row !== null && keys.length > 0 && (expected !== null || !overruled);
    return { act, changed: gone ? "its row has been deleted since" : null };
  }
  if (expected !== null) {
    const columns = Object.keys(expected).filter((name) => name in here.image && expected[name] !== here.image[name]);
    return {
      act,
      changed: columns.length === 0 ? null : `its row has been changed since, in ${columns.join(", ")}`,
    };
  }
  if (overruled && against === null) return { act, changed: "there is a row of its key again" };
  const later = here.writtenAt !== null && here.writtenAt > decidedAt;
  return { act, changed: later ? "its row has been written since" : null };
}

function actOf(row: Image | null, here: Standing | null, keys: readonly string[]): Act {
  if (row === null) return { do: here === null ? "nothing" : "delete" };
  if (here === null) return { do: "insert" };
  if (same(row, here.image, Object.keys(row))) return { do: "nothing" };
  return { do: "update", newKey: !same(row, here.image, keys) };
}

const same = (a: Image, b: Image, columns: readonly string[]): boolean =>
  columns.every((name) => !(name in b) || a[name] === b[name]);

const sameAsHere = (image: Image, here: Standing | null, keys: readonly string[]): boolean =>
  here !== null && same(image, here.image, keys);
