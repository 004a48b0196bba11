// One conflict as a scenario: what both sides write during a split, and what must stand in tables and log afterwards.
// Plain data and small makers of it; runs nothing (see conflict_run.ts).
import type { Role } from "./pair_node.ts";

/** The keys of a [[table]] entry besides `match`: of every table of the case. */
export interface CasePolicy {
  policy?: "last_update_wins" | "primary_wins" | "secondary_wins" | "merge_columns" | "append_only";
  deletes?: "update_wins" | "last_update_wins" | "delete_wins";
  unique?: "last_update_wins" | "primary_wins" | "secondary_wins";
  dangling?: "quarantine" | "restore_parent";
}

/** One transaction (or what its text makes of it) of the application on one side. */
export interface Step {
  readonly who: Role;
  readonly sql: string;
  /** The server must refuse it, with this SQLSTATE. */
  readonly refusedWith?: string;
}

type PartialImage = Readonly<Record<string, string | null>>;

/** What an entry of ha.conflict must say; what is left out is not looked at. */
export interface ExpectedConflict {
  readonly kind: string;
  /** Left out: `t`. */
  readonly table?: string;
  readonly key?: PartialImage;
  readonly winner: Role | "both" | "none";
  readonly policy?: string;
  /** Left out: false. */
  readonly quarantined?: boolean;
  /** The columns that tell; null: there is no such image. */
  readonly primaryRow?: PartialImage | null;
  readonly secondaryRow?: PartialImage | null;
  /** One entry or more, as a row was changed several times. */
  readonly several?: true;
}

export interface ConflictCase {
  /** Also the name of the schema that all of it happens in: lower case, at most 63 characters. */
  readonly id: string;
  readonly policy?: CasePolicy;
  /** DDL and rows that both sides have seen. Names without a schema are in the case's own. */
  readonly setup: string;
  /** In this order, so that the commit times follow it. */
  readonly split: readonly Step[];
  /** A table, or a query with one text column -> its rows at the end, on both sides, as text, in any order. */
  readonly rows: Readonly<Record<string, readonly string[]>>;
  /** All entries about tables of the case. */
  readonly conflicts: readonly ExpectedConflict[];
}

export const primary = (sql: string): Step => ({ who: "primary", sql });
export const secondary = (sql: string): Step => ({ who: "secondary", sql });
export const refused = (step: Step, refusedWith: string): Step => ({ ...step, refusedWith });

export const roles: readonly Role[] = ["primary", "secondary"];

/** Each side's statement, that of `later` last. */
export function inOrder(later: Role, ofPrimary: string, ofSecondary: string): Step[] {
  const steps = [primary(ofPrimary), secondary(ofSecondary)];
  return later === "secondary" ? steps : steps.reverse();
}

/** Who wins under a policy that knows sides and times only. */
export function winnerBy(policy: string, later: Role): Role {
  return policy === "primary_wins" ? "primary" : policy === "secondary_wins" ? "secondary" : later;
}

/** `short` of a policy's name, for ids of cases. */
export const short = (policy: string): string => policy.replace("last_update_wins", "last").replace("_wins", "");

/** The table of most cases. */
export const doc = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old'), (2, 'old');";
