// The vocabulary of the model of the merge: versions of rows, what a transaction changes, what goes over the link. Plain
// values; a version knows what its writer saw, which no real node does: the invariants are judged by that.
import type { Word } from "../../../agent/merge/answers.ts";
import type { Incoming, Role } from "../../../agent/merge/classify.ts";
import type { TablePolicy } from "../../../agent/merge/policy.ts";
import { rowName } from "../../../agent/change/row_key.ts";

export type Image = Record<string, string | null>;
export type Table = "parent" | "child";

/** What the tables of a world are like. */
export interface Rules {
  readonly policy: TablePolicy;
  /** Column u holds a value once only; null as often as one likes. */
  readonly unique: boolean;
  /** Column p of a child names the key of a parent. */
  readonly references: boolean;
  /** An update that leaves column b alone does not carry it. */
  readonly large: boolean;
  /** The secondary's applier never waits for its relay: what was deleted a moment ago may not be known. */
  readonly impatient: boolean;
}

/** What somebody wrote, and what they saw when they wrote it. A tombstone is a version too: its image is null. */
export interface Version {
  readonly id: number;
  readonly name: string;
  /** Of the commit; of what a merge made: when the primary's part of it was written. */
  readonly time: bigint;
  readonly image: Image | null;
  readonly parents: readonly Version[];
  readonly by: Role | "merge";
  /** Whose value each column has, in what a merge made. */
  readonly sources?: Readonly<Record<string, Version>>;
}

/** A row as it stands in a node's table: the version, and what its xmin tells. */
export interface Row {
  readonly version: Version;
  readonly xid: number;
  readonly time: bigint;
  readonly own: boolean;
}

/** One row change as the stream has it. With a change of the key `left` is the tombstone at the old one. */
export interface RowChange {
  readonly incoming: Incoming;
  readonly oldName: string;
  readonly newName: string;
  readonly before: Image | null;
  /** The columns that the stream carries. */
  readonly after: Image | null;
  readonly version: Version;
  readonly left: Version | null;
}

export interface Truncation {
  readonly incoming: "truncate";
  readonly table: Table;
  readonly time: bigint;
  readonly left: ReadonlyMap<string, Version>;
}

export type Change = RowChange | Truncation;

export interface Verdict {
  readonly name: string;
  /** The row as it is at the primary; null: there is none, and `left` is what it left. */
  readonly version: Version | null;
  readonly left: Version | null;
  readonly renews: boolean;
  readonly time: bigint | null;
}

export interface RowQuestion extends Word {
  readonly name: string;
}

/** A transaction in a node's log; `of`: the position in the peer's log that one of the applier's stands for. */
export interface Entry {
  readonly commit: bigint;
  readonly end: bigint;
  readonly xid: number;
  readonly time: bigint;
  readonly of: bigint | null;
  readonly idle: boolean;
  readonly changes: readonly Change[];
  readonly verdicts: readonly Verdict[];
  /** The rows that the secondary asks about. */
  readonly questions: readonly RowQuestion[];
}

/** What the relay sends for an entry. `seen`: how far its node had applied the receiver's log. */
export interface Message {
  readonly entry: Entry;
  readonly seen: bigint | null;
  readonly passes: boolean;
}

const schema = "s";
export const nameOf = (table: Table, key: string): string => rowName(schema, table, key);
export const tableOf = (name: string): Table => name.split("\0")[1] as Table;
export const keyOf = (name: string): string => name.split("\0")[2];
export const ownSchema = schema;

export const alive = (row: Row | undefined): Version | null => row && row.version.image ? row.version : null;

/** The version and all that it was written upon. */
export function ancestors(version: Version, into = new Set<Version>()): Set<Version> {
  const todo = [version];
  for (let one = todo.pop(); one; one = todo.pop()) {
    if (into.has(one)) continue;
    into.add(one);
    todo.push(...one.parents);
  }
  return into;
}

export function sameImage(one: Image | null, other: Image | null): boolean {
  if (one === null || other === null) return one === other;
  for (const name in one) if (one[name] !== other[name]) return false;
  return true;
}

/** The tombstone of a row that both sides have deleted. */
export function bothDeleted(one: Version, other: Version): Version {
  return { ...one, id: -1, parents: [one, other] };
}
