// What a table's rows must hold beside each other: unique and exclusion constraints, and foreign keys, as this server's
// catalog has them. Reads only, and by name. Expressions are SQL text over the table's bare column names.
import type { Sql } from "./connect.ts";

/** A unique index or an exclusion constraint: two rows may not be alike in all expressions, by their operators. */
export interface UniqueRule {
  /** Of the index, which is also that of its constraint: what an error's constraint_name says. */
  readonly name: string;
  readonly primary: boolean;
  /** Compares by operators of its own: EXCLUDE, and from PostgreSQL 18 on WITHOUT OVERLAPS. */
  readonly exclusion: boolean;
  /** False: DEFERRABLE, so that a session whose replication role is replica is never refused. */
  readonly immediate: boolean;
  /** Each key column or expression, with bare column names. */
  readonly expressions: readonly string[];
  /** The operator of each: `OPERATOR(schema.=)`. */
  readonly operators: readonly string[];
  /** The collation of each comparison, quoted; null where the type has none. */
  readonly collations: readonly (string | null)[];
  /** Only rows that this holds for are compared; null: all. */
  readonly predicate: string | null;
  readonly nullsNotDistinct: boolean;
  /** The key columns, where all of them are plain columns; else null. */
  readonly columns: readonly string[] | null;
  /** The table's stored generated columns: images have no values of these. */
  readonly generated: readonly GeneratedColumn[];
}

export interface GeneratedColumn {
  readonly name: string;
  readonly expression: string;
}

export interface TableName {
  readonly schema: string;
  readonly table: string;
}

/** A foreign key of one table that holds rows: of a partitioned child, one for each partition. */
export interface ForeignKey {
  readonly name: string;
  /** What the table that was asked about is in it; it may be both. */
  readonly asChild: boolean;
  readonly asParent: boolean;
  readonly child: TableName;
  readonly childColumns: readonly string[];
  /** As the constraint names it: the partitioned table, not the partition that has the row. */
  readonly parent: TableName;
  readonly parentColumns: readonly string[];
  readonly parentPartitioned: boolean;
  /** Of each pair, to be written `parent column operator child column`: `OPERATOR(schema.=)`. */
  readonly operators: readonly string[];
  /** The collation of each comparison, quoted, where the two columns' own differ; else null. */
  readonly collations: readonly (string | null)[];
  readonly onDelete: "no action" | "restrict" | "cascade" | "set null" | "set default";
  /** PERIOD (from PostgreSQL 18 on): parents alike in the other columns must together cover the last one. */
  readonly period: boolean;
}

/**
 * Every unique index and exclusion constraint of the table, the primary key first. Left out: an index over the whole row
 * as one value (`f(t.*)`), which cannot be asked about a row that is not there.
 */
export async function readUniqueRules(sql: Sql, schema: string, table: string): Promise<UniqueRule[]> {
  const generated = await sql<GeneratedColumn[]>`
    SELECT a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
      JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE n.nspname = ${schema} AND c.relname = ${table} AND a.attgenerated = 's' AND NOT a.attisdropped
    ORDER BY a.attnum`;
  // An index that is being built (CREATE INDEX CONCURRENTLY) refuses rows from indisready on. A constraint names its
  // operators; of a plain unique index, it is strategy 3 of the operator class: equality of a btree.
  const rules = await sql<Omit<UniqueRule, "generated">[]>`
    SELECT x.relname AS name, i.indisprimary AS primary, k.conexclop IS NOT NULL AS exclusion,
      i.indimmediate AS immediate, pg_get_expr(i.indpred, i.indrelid) AS predicate,
      i.indnullsnotdistinct AS "nullsNotDistinct", e.*
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid
      LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x'),
      LATERAL (
        SELECT array_agg(pg_get_indexdef(i.indexrelid, m, true) ORDER BY m) AS expressions,
          array_agg(coalesce(format('OPERATOR(%I.%s)', s.nspname, o.oprname), '=') ORDER BY m) AS operators,
          array_agg(CASE WHEN b.oid IS NULL THEN '' ELSE format('%I.%I', l.nspname, b.collname) END ORDER BY m) AS collations,
          CASE WHEN i.indexprs IS NULL THEN array_agg(a.attname::text ORDER BY m) END AS columns
        FROM generate_series(1, i.indnkeyatts) m
          LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[m - 1]
          LEFT JOIN pg_opclass p ON p.oid = i.indclass[m - 1]
          LEFT JOIN pg_amop q ON q.amopfamily = p.opcfamily AND q.amoplefttype = p.opcintype
            AND q.amoprighttype = p.opcintype AND q.amopstrategy = 3 AND q.amoppurpose = 's'
          LEFT JOIN pg_operator o ON o.oid = coalesce(k.conexclop[m], q.amopopr)
          LEFT JOIN pg_namespace s ON s.oid = o.oprnamespace
          LEFT JOIN pg_collation b ON b.oid = i.indcollation[m - 1]
          LEFT JOIN pg_namespace l ON l.oid = b.collnamespace
      ) e
    WHERE n.nspname = ${schema} AND c.relname = ${table} AND (i.indisunique OR i.indisexclusion) AND i.indisready
      AND concat(i.indexprs, i.indpred) NOT LIKE '%:varattno 0 %'
    ORDER BY NOT i.indisprimary, x.relname`;
  const own = generated.map((column) => ({ ...column }));
  return rules.map((rule) => ({ ...rule, collations: rule.collations.map(orNull), generated: own }));
}

/**
 * The foreign keys that rows of the table take part in: as children, or as parents, themselves or as a partition of the
 * parent. NOT ENFORCED ones are left out; those that are NOT VALID are not, as they hold for every row written since.
 */
export async function readForeignKeys(sql: Sql, schema: string, table: string): Promise<ForeignKey[]> {
  // PostgreSQL keeps, for each partition of a parent, a further entry that names the partition: its own parent entry
  // names another table. Rows lie in partitions only, and each partition of a child has an entry of its own.
  const keys = await sql<(Omit<ForeignKey, "child" | "parent"> & Record<`${"child" | "parent"}${string}`, string>)[]>`
    WITH own AS (
      SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = ${schema} AND c.relname = ${table} AND c.relkind IN ('r', 'p')
    ), ancestors AS (
      SELECT oid FROM own UNION SELECT a.relid FROM own, pg_partition_ancestors(own.oid) a(relid)
    )
    SELECT k.conname AS name, k.conrelid IN (SELECT oid FROM own) AS "asChild",
      k.confrelid IN (SELECT oid FROM ancestors) AS "asParent", cn.nspname AS "childSchema", c.relname AS "childTable",
      pn.nspname AS "parentSchema", p.relname AS "parentTable", p.relkind = 'p' AS "parentPartitioned",
      CASE k.confdeltype WHEN 'r' THEN 'restrict' WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null'
        WHEN 'd' THEN 'set default' ELSE 'no action' END AS "onDelete",
      coalesce((to_jsonb(k)->>'conperiod')::boolean, false) AS period, e.*
    FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace
      JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
      LEFT JOIN pg_constraint above ON above.oid = k.conparentid,
      LATERAL (
        SELECT array_agg(ca.attname::text ORDER BY m) AS "childColumns",
          array_agg(pa.attname::text ORDER BY m) AS "parentColumns",
          array_agg(format('OPERATOR(%I.%s)', s.nspname, o.oprname) ORDER BY m) AS operators,
          array_agg(CASE WHEN b.oid IS NULL THEN '' ELSE format('%I.%I', l.nspname, b.collname) END ORDER BY m) AS collations
        FROM generate_series(1, cardinality(k.conkey)) m
          JOIN pg_attribute ca ON ca.attrelid = k.conrelid AND ca.attnum = k.conkey[m]
          JOIN pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = k.confkey[m]
          JOIN pg_operator o ON o.oid = k.conpfeqop[m] JOIN pg_namespace s ON s.oid = o.oprnamespace
          LEFT JOIN pg_collation b ON b.oid = pa.attcollation AND pa.attcollation <> ca.attcollation
          LEFT JOIN pg_namespace l ON l.oid = b.collnamespace
      ) e
    WHERE k.contype = 'f' AND c.relkind = 'r' AND (above.oid IS NULL OR above.confrelid = k.confrelid)
      AND coalesce((to_jsonb(k)->>'conenforced')::boolean, true)
      AND (k.conrelid IN (SELECT oid FROM own) OR k.confrelid IN (SELECT oid FROM ancestors))
    ORDER BY cn.nspname, c.relname, k.conname`;
  return keys.map(({ childSchema, childTable, parentSchema, parentTable, ...key }) => ({
    ...key,
    collations: key.collations.map(orNull),
    child: { schema: childSchema, table: childTable },
    parent: { schema: parentSchema, table: parentTable },
  }));
}

/** The driver reads a NULL within an array as the text `NULL`. */
const orNull = (text: string | null): string | null => text || null;
