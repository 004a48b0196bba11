// Turns a recovered copy into a server of nobody's: what hapair has put into the database goes, the application's rows, tables
// and sequences stay as it made them. The conflict log is kept: a quarantined row is nowhere else.
// Only for a copy that no client can reach; never for a node of a pair.
import { originName, publicationName } from "../change/marks.ts";
import { openPool, type Sql, type Target } from "../postgres/connect.ts";
import { withLock } from "../postgres/locks.ts";
import { rollbackPrepared } from "./database.ts";

export interface LeftPair {
  /** Transactions that were prepared and not committed when the copy was taken: rolled back. */
  readonly rolledBack: readonly string[];
  /** Where the conflict log is now; null where nothing was in it. */
  readonly conflicts: string | null;
  /** Subscriptions to other servers, which are the first server's and must not be drawn on twice: disabled. */
  readonly subscriptions: readonly string[];
}

/** Tables whose triggers go in one transaction: each takes a lock, and the server's room for locks is limited. */
const tablesAtOnce = 200;

export async function leavePair(target: Target): Promise<LeftPair> {
  const rolledBack = await rollbackPrepared(target);
  const sql = openPool(target, { purpose: "restore", max: 1 });
  try {
    const subscriptions = await sql<{ name: string }[]>`
      UPDATE pg_subscription SET subenabled = false WHERE subenabled RETURNING subname::text AS name`;
    await withLock(sql, "event triggers of schema ha", async (tx) => {
      const triggers = await tx<{ name: string }[]>`SELECT e.evtname AS name FROM pg_event_trigger e
        JOIN pg_proc p ON p.oid = e.evtfoid WHERE p.pronamespace = 'ha'::regnamespace`;
      for (const { name } of triggers) await tx`DROP EVENT TRIGGER ${tx(name)}`;
      await tx.unsafe(`DROP PUBLICATION IF EXISTS ${publicationName}`);
    });
    const conflicts = await keepConflicts(sql);
    await dropTriggers(sql);
    await withLock(sql, "replica identities", (tx) => tx.unsafe(identities));
    await withLock(sql, "sequences", (tx) => tx.unsafe(sequences));
    await withLock(sql, "schema ha", (tx) => tx`DROP SCHEMA ha CASCADE`);
    await sql`SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = ${originName}`;
    await sql`ALTER DATABASE ${sql(target.database)} RESET default_transaction_read_only`;
    return { rolledBack, conflicts, subscriptions: subscriptions.map(({ name }) => name) };
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** A copy of ha.conflict in a schema of its own; `ha_before`, or the next name of that kind that is free. */
async function keepConflicts(sql: Sql): Promise<string | null> {
  const [{ any }] = await sql`SELECT EXISTS (SELECT FROM ha.conflict) AS any`;
  if (!any) return null;
  return await withLock(sql, "schema ha", async (tx) => {
    const present = await tx<{ name: string }[]>`SELECT nspname AS name FROM pg_namespace WHERE nspname ^@ 'ha_before'`;
    let schema = "ha_before";
    for (let n = 2; present.some(({ name }) => name === schema); n++) schema = `ha_before_${n}`;
    await tx`CREATE SCHEMA ${tx(schema)}`;
    await tx`CREATE TABLE ${tx(schema)}.conflict AS TABLE ha.conflict`;
    await tx`ALTER TABLE ${tx(schema)}.conflict ADD PRIMARY KEY (id)`;
    return `${schema}.conflict`;
  });
}

async function dropTriggers(sql: Sql): Promise<void> {
  for (;;) {
    const tables = await sql<{ name: string; triggers: string[] }[]>`
      SELECT format('%I.%I', n.nspname, c.relname) AS name, array_agg(g.tgname::text) AS triggers
      FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid AND p.pronamespace = 'ha'::regnamespace
        JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname <> 'ha' AND g.tgparentid = 0 GROUP BY 1 LIMIT ${tablesAtOnce}`;
    if (tables.length === 0) return;
    await withLock(sql, "triggers of schema ha", async (tx) => {
      for (const { name, triggers } of tables) {
        for (const trigger of triggers) await tx`DROP TRIGGER ${tx(trigger)} ON ${tx.unsafe(name)}`;
      }
    });
  }
}

const identities = `
DO $body$
DECLARE t record;
BEGIN
  FOR t IN SELECT format('%I.%I', n.nspname, c.relname) AS name, i.relname AS index
    FROM ha.identity_full f JOIN pg_class c ON c.oid = f.relation JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_class i ON i.oid = f.index_before
    WHERE c.relreplident = 'f'
  LOOP
    EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY %s', t.name,
      CASE WHEN t.index IS NULL THEN 'DEFAULT' ELSE format('USING INDEX %I', t.index) END);
  END LOOP;
END
$body$`;

// What was doubled and moved goes back to what it was. The next value lies beyond all that either node has given out, as far
// as this copy knows: told by the peer, or in the column that the sequence is for.
const sequences = `
DO $body$
DECLARE
  s record;
  furthest bigint;
BEGIN
  FOR s IN SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, r.*, q.seqincrement, q.seqcycle,
      q.seqstart, q.seqmin, q.seqmax, p.last_value AS told,
      (SELECT format('SELECT %s(%I)::bigint FROM %s', CASE WHEN q.seqincrement > 0 THEN 'max' ELSE 'min' END,
          a.attname, a.attrelid::regclass)
        FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
          AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
          AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)) AS used
    FROM ha.sequence r JOIN pg_class c ON c.oid = r.sequence JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_sequence q ON q.seqrelid = c.oid
      LEFT JOIN ha.sequence_position p ON p.schema_name = n.nspname AND p.sequence_name = c.relname
    WHERE n.nspname <> 'ha'
  LOOP
    IF s.seqincrement = s.increment_set THEN
      EXECUTE format('ALTER SEQUENCE %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s', s.name, s.increment_before,
        CASE WHEN s.seqmin = s.min_set THEN s.min_before ELSE s.seqmin END,
        CASE WHEN s.seqmax = s.max_set THEN s.max_before ELSE s.seqmax END,
        CASE WHEN s.seqstart = s.start_set THEN s.start_before ELSE s.seqstart END);
    END IF;
    CONTINUE WHEN s.seqcycle; -- its values come again anyway
    furthest := s.told;
    IF s.used IS NOT NULL THEN
      EXECUTE s.used INTO furthest;
      furthest := CASE WHEN s.seqincrement > 0 THEN greatest(furthest, s.told) ELSE least(furthest, s.told) END;
    END IF;
    EXECUTE format('SELECT setval(%L, %L::bigint, true) FROM %s q WHERE %L::bigint BETWEEN %s AND %s AND %s', s.name,
      furthest, s.name, furthest,
      CASE WHEN s.seqmin = s.min_set THEN s.min_before ELSE s.seqmin END,
      CASE WHEN s.seqmax = s.max_set THEN s.max_before ELSE s.seqmax END,
      CASE WHEN s.seqincrement > 0
        THEN format('(q.last_value < %1$L::bigint OR (q.last_value = %1$L::bigint AND NOT q.is_called))', furthest)
        ELSE format('(q.last_value > %1$L::bigint OR (q.last_value = %1$L::bigint AND NOT q.is_called))', furthest) END);
  END LOOP;
END
$body$`;
