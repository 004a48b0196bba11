// Rows as people and the conflict log see them: column name -> text form of the value. Builds the statements that read
// and write single rows in that form. Builds text only; names are quoted, values are always parameters.
import type { Buffer } from "node:buffer";
import { rowName } from "../change/row_key.ts";
import type { Writer } from "../merge/history.ts";
import type { Sql } from "../postgres/connect.ts";
import { microsecondsOf } from "../postgres/times.ts";
import { literal, quote } from "./plan.ts";

/** Column name -> text form; null is NULL. A column that is not known (an unchanged TOAST value) is left out. */
export type Image = Record<string, string | null>;

export interface RowColumn {
  readonly name: string;
  readonly typeName: string;
  /** The type's binary output function, quoted; null where it has none. */
  readonly send: string | null;
  readonly settable: boolean;
}

/** What a statement needs to know of a table; a Plan is one, and so is what a verdict names. */
export interface RowShape {
  readonly schema: string;
  readonly table: string;
  /** Quoted. */
  readonly target: string;
  readonly columns: readonly RowColumn[];
  readonly keys: readonly RowColumn[];
  readonly wholeRow: boolean;
}

/** A jsonb expression: the image of the row that `alias` names. */
export function imageOf(alias: string, columns: readonly { readonly name: string }[]): string {
  const names = columns.map((c) => literal(c.name)).join(", ");
  const values = columns.map((c) => `${alias}.${quote(c.name)}::text`).join(", ");
  return `jsonb_object(ARRAY[${names}]::text[], ARRAY[${values}]::text[])`;
}

/**
 * A bytea expression: the key of the row that `alias` names as keyBytes (change/row_key.ts) has it from the wire, so that
 * `rowName(schema, table, bytes as latin1)` is the row's name.
 */
export function keyBytesOf(alias: string, keys: RowShape["keys"]): string {
  const parts = keys.map(({ name, send }) => {
    const column = `${alias}.${quote(name)}`;
    const bytes = send ? `${send}(${column})` : `convert_to(${column}::text, getdatabaseencoding())`;
    return `int4send(length(${bytes})) || ${bytes}`;
  });
  return parts.length > 0 ? parts.join(" || ") : "''::bytea";
}

/** The condition that finds the row of the image in parameter `$n` (jsonb): by key, or by all its values. */
export function matches(shape: RowShape, parameter: string): string {
  if (!shape.wholeRow) {
    return shape.keys.map((c) => `t.${quote(c.name)} = ${valueOf(c, parameter)}`).join(" AND ");
  }
  const same = shape.columns.map((c) =>
    `t.${quote(c.name)}::text IS NOT DISTINCT FROM (${parameter}::jsonb->>${literal(c.name)})`
  ).join(" AND ");
  // Rows without a key may be there several times; one change is about one of them.
  return `t.ctid = (SELECT t.ctid FROM ONLY ${shape.target} t WHERE ${same} LIMIT 1)`;
}

/** The column's value in the image in `parameter` (`$n`). */
export const valueOf = (column: { readonly name: string; readonly typeName: string }, parameter: string): string =>
  `(${parameter}::jsonb->>${literal(column.name)})::${column.typeName}`;

/**
 * What is selected of the row `t` (see rowHere). Nothing of it may come from another item of FROM: where the lock on the
 * row was waited for, PostgreSQL computes the list anew from the row as it is then, but keeps what FROM gave before.
 */
function standing(shape: RowShape): string {
  const commit = "(pg_xact_commit_timestamp_origin(t.xmin))";
  return `t.xmin::text AS xid, ${commit}."roident"::text AS origin, ` +
    `${microsecondsOf(`${commit}."timestamp"`)} AS time, ` +
    `${imageOf("t", shape.columns)} AS image, ${keyBytesOf("t", shape.keys)} AS key_bytes`;
}

/**
 * Rows of the table as rowHere takes them: `SELECT` list and `FROM ONLY table t`, to go on with `WHERE`. Names that
 * nothing qualifies mean columns of `t`: expressions of indexes are written so.
 */
export function selectRows(shape: RowShape): string {
  return `SELECT ${standing(shape)} FROM ONLY ${shape.target} t `;
}

/** Locks the row of the image `$1`. */
export function selectForUpdate(shape: RowShape): string {
  return `${selectRows(shape)}WHERE ${matches(shape, "$1")} FOR UPDATE OF t`;
}

/** A row as it stands in its table. */
export interface RowHere {
  readonly image: Image;
  /** See change/row_key.ts: the same on both nodes. */
  readonly name: string;
  readonly writer: Writer;
  /** Written by this node's application, not by the applier; and its commit time is known. */
  readonly own: boolean;
}

/** Reads a result of selectRows. `peerOrigin`: the replication origin of the applier. */
export function rowHere(shape: RowShape, row: Record<string, unknown>, peerOrigin: string): RowHere {
  const { xid, origin, time, image, key_bytes } = row as Record<string, string | null>;
  return {
    image: image as unknown as Image,
    name: rowName(shape.schema, shape.table, (key_bytes as unknown as Buffer).toString("latin1")),
    writer: { xid: Number(xid), commitTime: BigInt(time ?? 0) },
    // Without a commit time the version is our own batch's, or so old that its time is no longer kept.
    own: time !== null && origin !== peerOrigin,
  };
}

/** Locks and reads the row that the image names; null if there is none. */
export async function lockRow(sql: Sql, shape: RowShape, image: Image, peerOrigin: string): Promise<RowHere | null> {
  const [row] = await sql.unsafe(selectForUpdate(shape), [image], { prepare: true });
  return row ? rowHere(shape, row, peerOrigin) : null;
}

/** The row that the image names, without a lock; null if there is none. */
export async function readRowOf(sql: Sql, shape: RowShape, image: Image): Promise<Image | null> {
  const [row] = await sql.unsafe(
    `SELECT ${imageOf("t", shape.columns)} AS image FROM ${shape.target} t WHERE ${matches(shape, "$1")}`,
    [image],
  );
  return row?.image ?? null;
}

/** Inserts the image `$1`; `columns` are those that the image has. */
export function insertRow(shape: RowShape, columns: readonly string[]): string {
  const own = shape.columns.filter((c) => columns.includes(c.name));
  if (own.length === 0) return `INSERT INTO ${shape.target} DEFAULT VALUES`;
  return `INSERT INTO ${shape.target} (${own.map((c) => quote(c.name)).join(", ")}) OVERRIDING SYSTEM VALUE ` +
    `VALUES (${own.map((c) => valueOf(c, "$1")).join(", ")})`;
}

/** Sets the columns of the image `$2` in the row of the image `$1`; null if there is nothing to set. */
export function updateRow(shape: RowShape, columns: readonly string[], withKeys: boolean): string | null {
  const keys = shape.keys.map((c) => c.name);
  const set = shape.columns.filter((c) =>
    columns.includes(c.name) && (c.settable || (withKeys && keys.includes(c.name)))
  );
  if (set.length === 0) return null;
  return `UPDATE ONLY ${shape.target} t SET ${set.map((c) => `${quote(c.name)} = ${valueOf(c, "$2")}`).join(", ")} ` +
    `WHERE ${matches(shape, "$1")}`;
}

/** Deletes the row of the image `$1`. */
export function deleteRow(shape: RowShape): string {
  return `DELETE FROM ONLY ${shape.target} t WHERE ${matches(shape, "$1")}`;
}

/** The part of an image that is the key. */
export function keyOfImage(shape: RowShape, image: Image): Image {
  const names = shape.wholeRow ? shape.columns : shape.keys;
  return Object.fromEntries(names.map((c) => [c.name, image[c.name] ?? null]));
}
