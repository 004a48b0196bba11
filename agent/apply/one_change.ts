// What the paths of the applier share about one change: its images, the names of its rows, how it is written as it is, and
// how it comes into the conflict log. Holds no state.
import { type Relation, tag } from "../change/pgoutput.ts";
import type { ConflictKind, Incoming, Role } from "../merge/classify.ts";
import type { TablePolicy } from "../merge/policy.ts";
import type { UniqueRule } from "../postgres/constraints.ts";
import type { Sql } from "../postgres/connect.ts";
import type { ConflictEntry } from "./conflict_log.ts";
import type { Op } from "./inbox.ts";
import type { NewValue } from "./new_values.ts";
import type { Outcomes } from "./outcomes.ts";
import type { OwnChanges } from "./own_changes.ts";
import type { Plan } from "./plan.ts";
import { deleteRow, type Image, insertRow, keyOfImage, type RowHere, type RowShape, updateRow } from "./rows.ts";
import type { Touched } from "./touched.ts";

/** What deciding about a change and carrying it out takes. */
export interface ChangeDeps {
  readonly sql: Sql;
  readonly role: Role;
  /** null: this node has no changes of its own that the peer could have missed. */
  readonly own: () => OwnChanges | null;
  readonly peerOrigin: () => string;
  readonly policyOf: (label: string) => TablePolicy;
  readonly planOf: (relation: Relation) => Plan;
  readonly rulesOf: (shape: RowShape) => Promise<readonly UniqueRule[]>;
  /** Does another table's foreign key refer to this one? */
  readonly isReferred: (shape: RowShape) => Promise<boolean>;
  /** The peer's row of this key as it is there now; null if it has none. */
  readonly fetchRow: (row: { schema: string; table: string; key: Image }) => Promise<Image | null>;
  readonly newValue: NewValue;
  readonly outcomes: Outcomes;
  readonly touched: Touched;
}

/** The images of a change: what it names the row by, and what it makes of it; and the names of these rows. */
export interface ChangeImages {
  readonly old: Image | null;
  readonly new: Image | null;
  readonly oldName: string | null;
  readonly newName: string | null;
  /** The row was not here when the images were read. */
  readonly missing: boolean;
}

/** What a change does to one row: a key change does something to two. */
export interface OneRow {
  readonly incoming: Incoming;
  readonly images: ChangeImages;
}

/** A conflict on the way to the log. */
export interface Found {
  readonly kind: ConflictKind;
  readonly here: RowHere | null;
  readonly winner: ConflictEntry["winner"];
  readonly why: string;
  readonly policy: string;
  readonly quarantined: boolean;
}

/** A change does not fit what was written before it out of turn: the order has to be kept. */
export class OutOfOrder extends Error {
  override name = "OutOfOrder";
}

/** When the primary wrote what stands here; of a merged row, its part of it. */
export const timeOf = (here: RowHere, own: OwnChanges | null): bigint =>
  here.own ? here.writer.commitTime : own?.renewedTime(here.name) ?? here.writer.commitTime;

/** The rows that a change names: with a key change there are two. */
export function namesOf({ old, oldName, new: image, newName }: ChangeImages): [string, Image][] {
  const found: [string, Image][] = [];
  if (old && oldName !== null) found.push([oldName, old]);
  if (image && newName !== null && newName !== oldName) found.push([newName, image]);
  return found;
}

/** The secondary will be told what has become of every row that the change named. See Outcomes.owe. */
export function oweNames(
  outcomes: Outcomes,
  plan: Plan,
  images: ChangeImages,
  renews: boolean,
  time: bigint | null = null,
): void {
  for (const [name, image] of namesOf(images)) outcomes.owe(plan, name, image, renews, time);
}

export const keyOr = (images: ChangeImages): Image => (images.old ?? images.new)!;

/** The log entry of a conflict over the row that a change names. */
export function entryOf(role: Role, plan: Plan, op: Op, images: ChangeImages, found: Found): ConflictEntry {
  const { here, ...rest } = found;
  const ours = { row: here?.image ?? null, time: here?.writer.commitTime ?? null, lsn: null };
  const theirs = { row: images.new, time: op.transaction.begin.commitTime, lsn: op.transaction.begin.commitLsn };
  const [primary, secondary] = role === "primary" ? [ours, theirs] : [theirs, ours];
  return {
    ...rest,
    schema: plan.schema,
    table: plan.table,
    key: keyOfImage(plan, keyOr(images)),
    primaryRow: primary.row,
    secondaryRow: secondary.row,
    primaryTime: primary.time,
    secondaryTime: secondary.time,
    primaryLsn: primary.lsn,
    secondaryLsn: secondary.lsn,
    loggedBy: role,
  };
}

export const incomingOf = (op: Op): Incoming =>
  op.message[0] === tag.insert ? "insert" : op.message[0] === tag.update ? "update" : "delete";

/** Writes a change as it is. An update that finds no row, or an insert that finds one, is an error of the server's. */
export async function writeChange(
  sql: Sql,
  plan: Plan,
  incoming: Incoming,
  named: Image,
  image: Image | null,
): Promise<void> {
  if (incoming === "delete") {
    await sql.unsafe(deleteRow(plan), [named], { prepare: true });
    return;
  }
  const columns = Object.keys(image!);
  if (incoming === "insert") {
    await sql.unsafe(insertRow(plan, columns), [image], { prepare: true });
    return;
  }
  const statement = updateRow(plan, columns, true);
  if (statement) await sql.unsafe(statement, [named, image], { prepare: true });
}
