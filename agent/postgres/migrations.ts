// Brings schema ha to the version that this agent knows: numbered steps, each in a transaction of its own.
// Never edits a step that was applied, and never works on a schema newer than itself.
import { AgentError, RefusedError } from "../errors.ts";
import type { Sql } from "./connect.ts";
import { tables } from "./schema/001_tables.ts";
import { guard } from "./schema/002_guard.ts";
import { sequences } from "./schema/003_sequences.ts";
import { objects } from "./schema/004_objects.ts";
import { conflicts } from "./schema/005_conflicts.ts";
import { policies } from "./schema/006_policies.ts";
import { sequencePositions } from "./schema/007_sequence_positions.ts";
import { primaryOnly } from "./schema/008_primary_only.ts";
import { shortWay } from "./schema/009_short_way.ts";

const steps: readonly string[] = [
  tables,
  guard,
  sequences,
  objects,
  conflicts,
  policies,
  sequencePositions,
  primaryOnly,
  shortWay,
];

/** The version of schema ha that this agent makes. */
export const schemaVersion = steps.length;

// "hapair" as a number: only one agent at a time changes the schema.
const lockKey = "114801694566770";

async function appliedVersion(sql: Sql): Promise<number | undefined> {
  const [there] =
    await sql`SELECT to_regnamespace('ha') IS NOT NULL AS schema, to_regclass('ha.migration') IS NOT NULL AS ours`;
  if (!there.schema) return undefined;
  if (!there.ours) {
    throw new RefusedError(
      "Cannot use this database: it has a schema ha of somebody else",
      "rename that schema: ALTER SCHEMA ha RENAME TO ...",
    );
  }
  const [row] = await sql<{ version: number }[]>`SELECT coalesce(max(version), 0) AS version FROM ha.migration`;
  return row.version;
}

/** Applies what is missing; returns the versions applied. Needs a superuser. Idempotent. */
export async function migrate(sql: Sql): Promise<number[]> {
  const applied: number[] = [];
  for (let version = await appliedVersion(sql) ?? 0; version < schemaVersion; version++) {
    const done = await sql.begin(async (tx) => {
      // The agent's own DDL must not be refused by the guard that it makes.
      await tx`SET LOCAL session_replication_role = replica`;
      await tx`SELECT pg_advisory_xact_lock(${lockKey}::bigint)`;
      await tx.unsafe(`CREATE SCHEMA IF NOT EXISTS ha;
        CREATE TABLE IF NOT EXISTS ha.migration (version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())`);
      const claimed = await tx`INSERT INTO ha.migration (version) VALUES (${version + 1}) ON CONFLICT DO NOTHING`;
      if (claimed.count === 0) return false;
      await tx.unsafe(steps[version]);
      return true;
    });
    if (done) applied.push(version + 1);
  }
  const now = await appliedVersion(sql);
  if (now === schemaVersion) return applied;
  throw new AgentError(
    `Cannot use schema ha: it is of version ${now}, this agent knows ${schemaVersion}`,
    "use the agent that made it, or a newer one",
  );
}
