// One row of a replicated table as it is here, for the peer that has to put it back whole. Reads; locks nothing.
import { shapeOf } from "../apply/relations.ts";
import { type Image, readRowOf } from "../apply/rows.ts";
import { ownSchema } from "../change/marks.ts";
import { RefusedError } from "../errors.ts";
import { readRelation } from "../postgres/catalog.ts";
import type { Sql } from "../postgres/connect.ts";

/** Throws RefusedError where this node replicates no such table, or the key does not name its rows. */
export async function readRow(
  sql: Sql,
  { schema, table, key }: { schema: string; table: string; key: Image },
): Promise<Image | null> {
  const local = schema === ownSchema || schema.startsWith("pg_") ? null : await readRelation(sql, schema, table);
  const shape = local && shapeOf(local);
  const columns = Object.keys(key);
  if (!shape || columns.length === 0 || !columns.every((name) => shape.columns.some((c) => c.name === name))) {
    throw new RefusedError(
      `Cannot read a row of ${schema}.${table}: there is no such table here, or it has no such key`,
      "make the table equal on both servers",
    );
  }
  const keys = shape.columns.filter((c) => columns.includes(c.name));
  return await readRowOf(sql, { ...shape, keys, wholeRow: false }, key);
}
