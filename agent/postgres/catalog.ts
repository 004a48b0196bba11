// Reads relations and types as this server's catalog has them. Reads only, and by name: OIDs differ between nodes.
import type { Sql } from "./connect.ts";

export interface Column {
  readonly name: string;
  readonly attnum: number;
  readonly typeOid: number;
  /** As format_type says it, with its modifier: `numeric(10,2)`, `public.mood[]`. */
  readonly typeName: string;
  readonly typmod: number;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  /** A stored or (from 18 on) virtual generated column: PostgreSQL computes it here. */
  readonly generated: "" | "s" | "v";
  readonly identity: "" | "a" | "d";
  /** False if the type has no binary output: its values come as text. */
  readonly hasSend: boolean;
  /** The quoted name of the type's binary output function; null without one. */
  readonly send: string | null;
}

export interface Relation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** pg_class.relkind: `r` table, `p` partitioned table, ... */
  readonly kind: string;
  readonly columns: readonly Column[];
  /** Stored generated columns come with the peer's changes (from 18 on) and are passed over. */
  readonly publishesGenerated: boolean;
  /** Columns of the primary key, in its order; empty without one. */
  readonly primaryKey: readonly string[];
  readonly replicaIdentity: "d" | "n" | "f" | "i";
  /** Columns of each other unique index that is whole (not partial, no expressions) and checked at once. */
  readonly uniqueKeys: readonly (readonly string[])[];
}

export type TypeDescription =
  & { readonly oid: number; readonly schema: string; readonly name: string; readonly hasSend: boolean }
  & (
    | { readonly kind: "base" | "enum" | "pseudo" }
    | { readonly kind: "array"; readonly element: number }
    | { readonly kind: "composite"; readonly fields: readonly { readonly name: string; readonly typeOid: number }[] }
    | { readonly kind: "range" | "multirange"; readonly subtype: number }
    | { readonly kind: "domain"; readonly base: number }
  );

/** The relation of that name, null if there is none. Dropped columns are left out. */
export async function readRelation(sql: Sql, schema: string, table: string): Promise<Relation | null> {
  const [relation] = await sql<(Omit<Relation, "columns" | "primaryKey" | "uniqueKeys">)[]>`
    SELECT c.oid::int8::text AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
      c.relreplident::text AS "replicaIdentity",
      current_setting('server_version_num')::int >= 180000 AS "publishesGenerated"
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ${schema} AND c.relname = ${table} AND c.relkind IN ('r', 'p', 'f', 'v', 'm')`;
  if (!relation) return null;
  const oid = Number(relation.oid);
  const columns = await sql<Column[]>`
    SELECT a.attname AS name, a.attnum, a.atttypid AS "typeOid", format_type(a.atttypid, a.atttypmod) AS "typeName",
      a.atttypmod AS typmod, a.attnotnull AS "notNull", a.atthasdef AS "hasDefault", a.attgenerated::text AS generated,
      a.attidentity::text AS identity, t.typsend <> 0 AS "hasSend",
      (SELECT format('%I.%I', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE p.oid = t.typsend) AS send
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = ${oid}::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`;
  // Only the key columns of an index: those of INCLUDE come after indnkeyatts.
  const indexes = await sql<{ primary: boolean; columns: string[] }[]>`
    SELECT i.indisprimary AS primary, array_agg(a.attname::text ORDER BY k.position) AS columns
    FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position), pg_attribute a
    WHERE i.indrelid = ${oid}::oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
      AND i.indexprs IS NULL AND k.position <= i.indnkeyatts AND a.attrelid = i.indrelid AND a.attnum = k.attnum
    GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indexrelid`;
  return {
    ...relation,
    oid,
    columns: columns.map((column) => ({ ...column })),
    primaryKey: indexes.find((index) => index.primary)?.columns ?? [],
    uniqueKeys: indexes.filter((index) => !index.primary).map((index) => index.columns),
  };
}

interface TypeRow {
  oid: number;
  schema: string;
  name: string;
  hasSend: boolean;
  type: string;
  element: number;
  base: number;
  subtype: number | null;
  relation: number;
}

function describe(row: TypeRow, fields: { name: string; typeOid: number }[]): TypeDescription {
  const { oid, schema, name, hasSend } = row;
  const common = { oid, schema, name, hasSend };
  if (row.element !== 0) return { ...common, kind: "array", element: row.element };
  switch (row.type) {
    case "c":
      return { ...common, kind: "composite", fields };
    case "d":
      return { ...common, kind: "domain", base: row.base };
    case "e":
      return { ...common, kind: "enum" };
    case "r":
      return { ...common, kind: "range", subtype: row.subtype ?? 0 };
    case "m":
      return { ...common, kind: "multirange", subtype: row.subtype ?? 0 };
    case "p":
      return { ...common, kind: "pseudo" };
    default:
      return { ...common, kind: "base" };
  }
}

/** The types and, recursively, all those that they are made of, by OID. An OID that is no type is left out. */
export async function readTypes(sql: Sql, oids: Iterable<number>): Promise<Map<number, TypeDescription>> {
  const known = new Map<number, TypeDescription>();
  let wanted = [...new Set(oids)];
  while (wanted.length > 0) {
    // Only true arrays: fixed-length types such as point have an element type as well, but no other wire format.
    const rows = await sql<TypeRow[]>`
      SELECT t.oid, n.nspname AS schema, t.typname AS name, t.typsend <> 0 AS "hasSend", t.typtype::text AS type,
        CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc THEN t.typelem ELSE 0 END AS element,
        t.typbasetype AS base, coalesce(r.rngsubtype, m.rngtypid) AS subtype, t.typrelid AS relation
      FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
      WHERE t.oid = ANY (${wanted.map(String)}::oid[])`;
    const composites = rows.filter((row) => row.relation !== 0).map((row) => String(row.relation));
    const fields = composites.length === 0 ? [] : await sql<{ relation: number; name: string; typeOid: number }[]>`
      SELECT attrelid AS relation, attname AS name, atttypid AS "typeOid" FROM pg_attribute
      WHERE attrelid = ANY (${composites}::oid[]) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum`;
    for (const row of rows) {
      const own = fields.filter(({ relation }) => relation === row.relation);
      known.set(row.oid, describe(row, own.map(({ name, typeOid }) => ({ name, typeOid }))));
    }
    const next = rows.flatMap((row) => partsOf(known.get(row.oid)));
    wanted = [...new Set(next)].filter((oid) => !known.has(oid));
  }
  return known;
}

/** The types that a type is made of, directly. */
export function partsOf(type: TypeDescription | undefined): number[] {
  switch (type?.kind) {
    case "array":
      return [type.element];
    case "composite":
      return type.fields.map(({ typeOid }) => typeOid);
    case "range":
    case "multirange":
      return [type.subtype];
    case "domain":
      return [type.base];
    default:
      return [];
  }
}
