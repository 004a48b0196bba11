// An entry of the conflict log as it is listed and shown, and what became of its losing version. Types and small pure
// functions; nothing here reads a database.
import type { Image } from "../apply/rows.ts";
import type { ConflictKind, Role } from "../merge/classify.ts";

export type { Image, Role };

/** One entry as a listing has it. The answer of POST /conflicts/list; what a script may hold on to. */
export interface ConflictLine {
  readonly id: number;
  /** ISO, UTC, to the microsecond: when it was decided. */
  readonly at: string;
  readonly kind: string;
  readonly schema: string;
  readonly table: string;
  readonly key: Image | null;
  readonly winner: Role | "both" | "none";
  readonly policy: string | null;
  readonly why: string | null;
  readonly logged_by: Role | null;
  /** The losing row stands in no table any more. */
  readonly quarantined: boolean;
  readonly reviewed_at: string | null;
  readonly restored_at: string | null;
}

/** One entry whole. */
export interface ConflictEntry extends ConflictLine {
  readonly primary_row: Image | null;
  readonly secondary_row: Image | null;
  readonly primary_commit_at: string | null;
  readonly secondary_commit_at: string | null;
  readonly primary_lsn: string | null;
  readonly secondary_lsn: string | null;
}

/** The answer of POST /conflicts/show. */
export interface ConflictView extends ConflictEntry {
  /** Columns whose values are not the same in both versions. */
  readonly differs: readonly string[];
  /** Columns whose values are not shown. */
  readonly masked: readonly string[];
}

/** What was done by `agent conflicts restore`. */
export interface Restored {
  readonly id: number;
  readonly schema: string;
  readonly table: string;
  readonly version: Role;
  readonly did: "inserted" | "updated" | "deleted";
}

/** Every kind, for who names one on the command line. */
export const conflictKinds = Object.keys(
  {
    insert_exists: true,
    update_origin_differs: true,
    update_deleted: true,
    update_missing: true,
    delete_origin_differs: true,
    update_exists: true,
    multiple_unique_conflicts: true,
    exclusion_differs: true,
    foreign_key_dangling: true,
    cannot_apply: true,
  } satisfies Record<ConflictKind, true>,
);

export type Outcome = "restored" | "reviewed" | "quarantined" | "overruled" | "kept";

/** What has become of the losing version. `kept`: something of both versions stands. */
export function outcomeOf({ restored_at, reviewed_at, quarantined, winner }: ConflictLine): Outcome {
  if (restored_at !== null) return "restored";
  if (reviewed_at !== null) return "reviewed";
  if (quarantined) return "quarantined";
  return winner === "both" ? "kept" : "overruled";
}

/** Columns that are in one version only, or have other values. A value that is not on record counts as the same. */
export function differences(primary: Image | null, secondary: Image | null): string[] {
  if (primary === null || secondary === null) return Object.keys(primary ?? secondary ?? {});
  return Object.keys(primary).filter((name) => name in secondary && primary[name] !== secondary[name]);
}

export const labelOf = ({ schema, table }: Pick<ConflictLine, "schema" | "table">): string => `${schema}.${table}`;
