// What setup writes into databases: the application's role and database, schema ha's own rows, and on a fresh copy what
// turns it from the primary's twin into the secondary. Never touches the application's rows.
import { randomUUID } from "node:crypto";
import { formatLsn, type Lsn } from "../change/lsn.ts";
import type { Config } from "../config.ts";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { connectionError, openPool, type Sql, type Target } from "../postgres/connect.ts";
import { migrate } from "../postgres/migrations.ts";
import { ensurePolicies, ensurePrimaryOnly, ensureTables } from "../postgres/objects.ts";
import { ensureSequences } from "../postgres/sequences.ts";
import { readTables } from "../postgres/tables.ts";
import { primaryOnlyRules } from "../primary_only.ts";
import { closeGuard, ensureNode } from "../role/guard.ts";
import { rowsPolicies } from "../table_policies.ts";
import { ensureAppPassword } from "./files.ts";

const appRole = "app";

/** Makes the database and its owner `app` where there is no such database. True if it was made. */
export async function ensureDatabase(home: Home, target: Target, dbname: string): Promise<boolean> {
  const sql = openPool(target, { purpose: "setup", max: 1 });
  try {
    const [there] = await sql`SELECT FROM pg_database WHERE datname = ${dbname}`.catch((error) => {
      throw connectionError(error, target);
    });
    if (there) return false;
    const [role] = await sql`SELECT FROM pg_roles WHERE rolname = ${appRole}`;
    if (!role) {
      const password = ensureAppPassword(home);
      await sql.begin(async (tx) => {
        await tx`SET LOCAL log_statement = 'none'`;
        await tx`SET LOCAL log_min_error_statement = 'panic'`;
        // The password is base64url: nothing in it needs quoting.
        await tx.unsafe(`CREATE ROLE ${appRole} LOGIN PASSWORD '${password}'`);
      });
    }
    await sql`CREATE DATABASE ${sql(dbname)} OWNER ${sql(appRole)}`;
    return true;
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** Schema ha and this node's row in it; the guard stays open for an application that is at work already. */
export async function ensureSchema(sql: Sql, node: string): Promise<number[]> {
  const applied = await migrate(sql);
  const [present] = await sql<{ node: string; role: string }[]>`SELECT node, role FROM ha.state`;
  if (present && present.role !== "primary") {
    throw new RefusedError(
      `Cannot set up a primary: this database is that of the ${present.role} ${present.node}`,
      "name the primary's database",
    );
  }
  if (present) await ensureNode(sql, { node, role: "primary" });
  else {
    // Open for as long as this postmaster runs: after a restart only the agent opens it.
    await sql`INSERT INTO ha.state (node, role, state, writable, opened_at)
      VALUES (${node}, 'primary', 'serving', true, pg_postmaster_start_time()) ON CONFLICT DO NOTHING`;
  }
  return applied;
}

/** Tables guarded, true to their policies and rules, and published, sequences odd. */
export async function ensureObjects(sql: Sql, config: Config): Promise<{ tables: string[]; sequences: string[] }> {
  const tables = await readTables(sql);
  await ensurePolicies(sql, rowsPolicies(config, tables));
  await ensurePrimaryOnly(sql, primaryOnlyRules(config, tables));
  return { tables: await ensureTables(sql), sequences: await ensureSequences(sql, "primary") };
}

export interface PairFacts {
  readonly pairId: string;
  readonly generation: string;
}

/** Which pair and which seed this database belongs to; null where it was never set up. */
export async function findPair(sql: Sql): Promise<PairFacts | null> {
  const [{ there }] = await sql`SELECT to_regclass('ha.pair') IS NOT NULL AS there`;
  const [pair] = there ? await sql`SELECT pair_id, generation FROM ha.pair` : [];
  return pair ? { pairId: pair.pair_id, generation: pair.generation } : null;
}

/** A new generation: what was received from a former secondary counts no more, as its LSNs will come again. */
export async function beginGeneration(sql: Sql): Promise<PairFacts> {
  const generation = randomUUID();
  return await sql.begin(async (tx) => {
    const [{ pair_id }] = await tx<{ pair_id: string }[]>`
      INSERT INTO ha.pair AS p (pair_id, generation) VALUES (${randomUUID()}, ${generation})
      ON CONFLICT (id) DO UPDATE SET generation = excluded.generation RETURNING p.pair_id`;
    await tx`INSERT INTO ha.progress (generation, applied_lsn) VALUES (${generation}, '0/0')
      ON CONFLICT (id) DO UPDATE
      SET generation = excluded.generation, applied_lsn = '0/0', peer_seen = NULL, updated_at = now()`;
    return { pairId: pair_id, generation };
  });
}

/** The settings that a copy needs if the primary's configuration files lie outside its data folder. */
export async function readFallbackSettings(sql: Sql): Promise<Record<string, string>> {
  const rows = await sql<{ name: string; setting: string }[]>`SELECT name, setting FROM pg_settings
    WHERE name IN ('max_connections', 'max_prepared_transactions', 'max_locks_per_transaction', 'max_worker_processes',
      'shared_preload_libraries', 'TimeZone', 'DateStyle', 'default_text_search_config') AND setting <> ''`;
  return Object.fromEntries(rows.map(({ name, setting }) => [name.toLowerCase(), setting]));
}

/** Makes a recovered copy the secondary, closed: done before any client can come in. */
export async function becomeSecondary(
  target: Target,
  { node, generation, appliedLsn }: { node: string; generation: string; appliedLsn: Lsn },
): Promise<void> {
  await rollbackPrepared(target);
  const sql = openPool(target, { purpose: "setup" });
  try {
    await sql`SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE`;
    // What the primary subscribes to reaches this node through the primary.
    await sql`UPDATE pg_subscription SET subenabled = false WHERE subenabled`;
    const progress = await sql`UPDATE ha.progress SET applied_lsn = ${formatLsn(appliedLsn)}::pg_lsn, peer_seen = NULL,
      updated_at = now() WHERE generation = ${generation}`;
    if (progress.count !== 1) {
      throw new RefusedError("Cannot use this copy: it is not of the pack's generation", "make a new pack");
    }
    // From here on the agent would run it: all that nobody else mends is done.
    await ensureNode(sql, { node, role: "secondary" });
    await ensureTables(sql); // with what is for the primary only, which the primary itself does not refuse
    await closeGuard(sql, { dbname: target.database, epoch: 0, state: "standby" });
    await ensureSequences(sql, "secondary");
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/**
 * What is prepared in a copy ends with it. Prepared at the primary, it will be committed or rolled back there, and come to
 * the secondary as a change like any other. Returns what it was called.
 */
export async function rollbackPrepared(target: Target): Promise<string[]> {
  const list = openPool(target, { purpose: "setup", max: 1 });
  try {
    const found = await list<{ gid: string; database: string }[]>`SELECT gid, database FROM pg_prepared_xacts`;
    for (const { gid, database } of found) {
      const sql = openPool({ ...target, database }, { purpose: "setup", max: 1 });
      try {
        await sql.unsafe(`ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`);
      } finally {
        await sql.end({ timeout: 5 });
      }
    }
    return found.map(({ gid }) => gid);
  } finally {
    await list.end({ timeout: 5 });
  }
}
