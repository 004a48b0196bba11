// The user's tables as the catalog has them: names, partition roots, columns, keys. One query; reads only, and needs no
// schema ha, so that setup can look before it changes anything.
import type { TableFacts } from "../table_policies.ts";
import type { Sql } from "./connect.ts";

/** Every ordinary and partitioned table of the user's, by name. */
export async function readTables(sql: Sql): Promise<TableFacts[]> {
  const rows = await sql<TableFacts[]>`
    WITH tables AS (
      SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, n.nspname || '.' || c.relname AS label,
        c.relispartition
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('ha', 'pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
    )
    SELECT t.schema, t.name, t.label,
      CASE WHEN t.relispartition THEN
        (SELECT root.label FROM tables root WHERE root.oid = pg_partition_root(t.oid)) END AS root,
      ARRAY(SELECT parent.label FROM pg_inherits h JOIN tables parent ON parent.oid = h.inhparent
        WHERE h.inhrelid = t.oid ORDER BY h.inhseqno) AS parents,
      ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns,
      ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = t.oid AND a.attgenerated = 'v' AND NOT a.attisdropped ORDER BY a.attnum) AS "virtualColumns",
      ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = t.oid AND a.attgenerated <> '' AND NOT a.attisdropped ORDER BY a.attnum) AS "generatedColumns",
      -- A deferrable key does not count, as in PostgreSQL; columns of INCLUDE come after indnkeyatts.
      ARRAY(SELECT a.attname::text
        FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position), pg_attribute a
        WHERE i.indrelid = t.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid
          AND k.position <= i.indnkeyatts AND a.attrelid = t.oid AND a.attnum = k.attnum
        ORDER BY k.position) AS "primaryKey"
    FROM tables t ORDER BY t.schema, t.name`;
  return rows.map((row) => ({ ...row }));
}

/** A text that is another one when tables, their columns, their keys or their places in other tables have changed. Cheap. */
export async function tablesStamp(sql: Sql): Promise<string> {
  const [{ stamp }] = await sql<{ stamp: string }[]>`
    SELECT concat_ws(' ',
      (SELECT sum(hashtextextended(oid || ' ' || xmin, 0)) FROM pg_class WHERE relkind IN ('r', 'p')),
      (SELECT sum(hashtextextended(a.attrelid || ' ' || a.attnum || ' ' || a.xmin, 0))
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)),
      (SELECT sum(hashtextextended(indexrelid || ' ' || xmin, 0)) FROM pg_index WHERE indisprimary),
      (SELECT sum(hashtextextended(inhrelid || ' ' || inhparent, 0)) FROM pg_inherits),
      (SELECT sum(hashtextextended(oid || ' ' || xmin, 0)) FROM pg_namespace)) AS stamp`;
  return stamp;
}
