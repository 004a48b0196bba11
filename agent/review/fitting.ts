// Whether a version on record still fits the table that it was of: its columns, and the types of its values. Reads the
// catalog and tries casts; names columns, never values.
import { type Image, valueOf } from "../apply/rows.ts";
import { literal } from "../apply/plan.ts";
import type { Column, Relation } from "../postgres/catalog.ts";
import { errorCode, type Sql } from "../postgres/connect.ts";

export interface Version {
  readonly row: Image;
  /** The other side's version: it may have a column that this one came without. */
  readonly against: Image | null;
  /** When the conflict was decided. */
  readonly at: string;
}

/** Why the version cannot be written into the table as it is now; null if it can. `whole`: as a new row. */
export async function misfit(sql: Sql, table: Relation, version: Version, whole: boolean): Promise<string | null> {
  const { row } = version;
  const columnOf = (name: string) => table.columns.find((column) => column.name === name);
  const gone = Object.keys(row).filter((name) => !columnOf(name));
  if (gone.length > 0) return `its table has no column ${gone.join(", ")} any more`;
  const computed = Object.keys(row).filter((name) => columnOf(name)!.generated);
  if (computed.length > 0) return `column ${computed.join(", ")} is generated now`;
  const columns = table.columns.filter(({ name }) => typeof row[name] === "string");
  const unfit = await valuesThatDoNotFit(sql, columns, row);
  if (unfit.length > 0) return `the value on record does not fit the type of column ${unfit.join(", ")} any more`;
  return whole ? await missing(sql, table, version) : null;
}

/** Columns that the version has no value for: a large value that its change left alone, or a column made since. */
async function missing(sql: Sql, table: Relation, { row, against, at }: Version): Promise<string | null> {
  const absent = table.columns.filter(({ name, generated }) => !generated && !(name in row));
  if (absent.length === 0) return null;
  const facts = await sql.unsafe<{ name: string; left: boolean }[]>(
    // A column whose entry in the catalog is older than the conflict was there. Large values are what may be left out.
    `SELECT attname AS name, attstorage <> 'p' AND coalesce(pg_xact_commit_timestamp(xmin) <= $2::text::timestamptz, true)
        AS left
      FROM pg_attribute WHERE attrelid = $1::oid`,
    [table.oid, at],
  );
  const leftOut = absent.filter(({ name }) =>
    (against !== null && name in against) || facts.find((fact) => fact.name === name)?.left
  );
  if (leftOut.length > 0) return `it came without its large value in column ${names(leftOut)}, which is not on record`;
  const needed = absent.filter(({ notNull, hasDefault, identity }) => notNull && !hasDefault && !identity);
  return needed.length === 0 ? null : `column ${names(needed)} is new, and has no default`;
}

const names = (columns: readonly Column[]): string => columns.map(({ name }) => name).join(", ");

async function valuesThatDoNotFit(sql: Sql, columns: readonly Column[], row: Image): Promise<string[]> {
  if (columns.length === 0) return [];
  const misfits = await tryCasts(sql, columns, row);
  if (misfits) return misfits;
  // The server says only that there is one.
  const unfit: string[] = [];
  for (const column of columns) unfit.push(...await tryCasts(sql, [column], row) ?? [column.name]);
  return unfit;
}

/** Columns whose values would be cut or rounded; null if one cannot be read at all. */
async function tryCasts(sql: Sql, columns: readonly Column[], row: Image): Promise<string[] | null> {
  const cases = columns.map((column) => `CASE WHEN ${fits(column)} THEN NULL ELSE ${literal(column.name)} END`);
  await sql.unsafe("SAVEPOINT ha_casts");
  try {
    const [{ unfit }] = await sql.unsafe(`SELECT array_remove(ARRAY[${cases.join(", ")}]::text[], NULL) AS unfit`, [
      row,
    ]);
    return unfit;
  } catch (error) {
    if (!/^2[23]/.test(errorCode(error) ?? "")) throw error;
    await sql.unsafe("ROLLBACK TO SAVEPOINT ha_casts");
    return null;
  }
}

/** True for a type that was changed into one that has room for the value, though it may write it in another way. */
function fits(column: Column): string {
  const value = valueOf(column, "$1");
  const text = `($1::jsonb->>${literal(column.name)})`;
  const asWritten = `(${value})::text = ${text}`;
  const kind = kinds.find(([pattern]) => pattern.test(column.typeName))?.[1];
  return kind ? `(${asWritten} OR (${value})::${kind} = ${text}::${kind})` : `(${asWritten})`;
}

/** Types whose values are the same in several forms, and the widest of them. */
const kinds: readonly [RegExp, string][] = [
  [/^(smallint|integer|bigint|numeric(\(.*\))?|real|double precision)$/, "numeric"],
  [/^timestamp(\(\d\))? with time zone$/, "timestamptz"],
  [/^(date|timestamp(\(\d\))? without time zone)$/, "timestamp"],
  [/^time(\(\d\))? without time zone$/, "time"],
];
