// Collations whose order comes from the machine (libc, ICU): by which version the indexes here were built, and which one
// the machine has now. A copy of the files on a machine of another version has indexes that are out of order. Reads only,
// but for refreshCollations, which rebuilds.
import type { CollationFacts } from "../check_report.ts";
import type { Sql } from "./connect.ts";

/** Every versioned collation of this database that an index depends on, and the default one of each database. */
export async function readCollations(sql: Sql): Promise<CollationFacts[]> {
  const rows = await sql<CollationFacts[]>`
    WITH provider(letter, word) AS (VALUES ('c', 'libc'), ('i', 'icu'), ('b', 'builtin')),
    -- An index depends on a collation by its columns, or by an expression in it; the default one has the OID 100.
    used AS (
      SELECT i.indexrelid, unnest(i.indcollation::oid[]) AS coll FROM pg_index i
      UNION
      SELECT objid, refobjid FROM pg_depend
      WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_collation'::regclass
    ),
    named AS (
      SELECT used.coll, array_agg(DISTINCT format('%I.%I', n.nspname, c.relname)
        ORDER BY format('%I.%I', n.nspname, c.relname)) AS indexes
      FROM used JOIN pg_class c ON c.oid = used.indexrelid AND c.relkind = 'i' JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
      GROUP BY used.coll
    )
    SELECT d.datname::text AS label, true AS "ofDatabase", p.word AS provider,
      coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale', d.datcollate) AS locale,
      d.datcollversion AS recorded, pg_database_collation_actual_version(d.oid) AS actual,
      CASE WHEN d.datname = current_database()
        THEN coalesce((SELECT indexes FROM named WHERE coll = 100), '{}') ELSE '{}' END AS indexes
    FROM pg_database d JOIN provider p ON p.letter = d.datlocprovider
    WHERE d.datallowconn
    UNION ALL
    SELECT format('%I.%I', n.nspname, c.collname), false, p.word,
      coalesce(to_jsonb(c)->>'colllocale', to_jsonb(c)->>'colliculocale', c.collcollate), c.collversion,
      pg_collation_actual_version(c.oid), named.indexes
    FROM named JOIN pg_collation c ON c.oid = named.coll JOIN pg_namespace n ON n.oid = c.collnamespace
      JOIN provider p ON p.letter = c.collprovider
    ORDER BY 2 DESC, 1`;
  return rows.map((row) => ({ ...row }));
}

/** One whose indexes were built by another version than the machine's. */
export const isStale = ({ recorded, actual }: CollationFacts): boolean => recorded !== null && recorded !== actual;
