// A node's own database as the agent uses it: where it is, what it says of itself. Asks; changes nothing.
import type { Config } from "../config.ts";
import { splitAddress } from "../config.ts";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { slotName } from "../change/marks.ts";
import { AgentError, RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import type { Role } from "../report.ts";
import { openPool, type Sql, type Target } from "../postgres/connect.ts";
import { withDeadline } from "../postgres/deadline.ts";
import { type Cluster, clusterMajor, localTarget } from "../postgres/server.ts";
import { clusterAt, programsFor } from "../setup/cluster.ts";
import { parseDatabaseUrl } from "../setup/existing.ts";
import { findPair, type PairFacts } from "../setup/database.ts";

export interface NodeDatabase {
  /** null for a server that somebody else runs. */
  readonly cluster: Cluster | null;
  readonly target: Target;
  /** For people: without a password. */
  readonly url: string;
}

/** Where the config says that the node's database is. */
export function nodeDatabase(home: Home, config: Config): NodeDatabase {
  const { postgres } = config;
  if (postgres.url) {
    const target = parseDatabaseUrl(postgres.url, postgres.dbname);
    return { cluster: null, target, url: `postgres://${target.host}:${target.port}/${target.database}` };
  }
  const pgdata = postgres.pgdata!;
  const listen = postgres.listen ?? splitAddress(config.node.listen).host;
  const cluster = clusterAt(home, {
    pgdata,
    binaries: programsFor(clusterMajor(pgdata), postgres.bin_dir, "the cluster"),
    port: postgres.port,
    listen,
    osUser: postgres.os_user,
  });
  const host = listen.includes(":") ? `[${listen}]` : listen;
  return {
    cluster,
    target: localTarget(cluster, postgres.dbname),
    url: `postgres://${host}:${postgres.port}/${postgres.dbname}`,
  };
}

/** Which pair and which seed this database belongs to. Throws AgentError where it was never set up. */
export async function readPair(sql: Sql): Promise<PairFacts> {
  const pair = await findPair(sql);
  if (pair) return pair;
  throw new AgentError("Cannot run: the database does not belong to a pair", "run agent setup on this node first");
}

/** A copy of the primary becomes the secondary at the end of its setup: until then it counts nothing as applied. */
export async function requireRole(sql: Sql, role: Role): Promise<void> {
  const [is] = await sql<{ role: string }[]>`SELECT role FROM ha.state`;
  if (is === undefined || is.role === role) return;
  throw new RefusedError(
    `Cannot run: agent.toml says ${role}, but the database is that of a ${is.role}`,
    role === "secondary"
      ? "run agent setup secondary, or agent reseed, again: it was not finished"
      : "name the primary's own database in agent.toml",
  );
}

export interface DatabaseView {
  readonly currentLsn: Lsn;
  readonly generation: string;
  readonly version: string;
  readonly writable: boolean;
  readonly retainedWalBytes: number;
  /** Transactions that are prepared for two-phase commit. */
  readonly prepared: number;
}

/** Beyond this the database does not answer. */
const lookMs = 5000;

/** One look at everything that a report or a status tells of the database. */
export async function lookAt(sql: Sql): Promise<DatabaseView> {
  const [row] = await withDeadline(look(sql), lookMs, "look at the database");
  return {
    currentLsn: parseLsn(row.lsn),
    generation: row.generation,
    version: row.version,
    writable: row.writable,
    retainedWalBytes: Number(row.retained),
    prepared: row.prepared,
  };
}

async function look(sql: Sql) {
  return await sql`
    SELECT pg_current_wal_insert_lsn()::text AS lsn, p.generation, current_setting('server_version') AS version,
      ha.guard_is_open() AS writable,
      coalesce((SELECT pg_current_wal_insert_lsn() - restart_lsn FROM pg_replication_slots
        WHERE slot_name = ${slotName}), 0)::text AS retained,
      (SELECT count(*)::int FROM pg_prepared_xacts WHERE database = current_database()) AS prepared
    FROM ha.pair p`;
}

/** The pool for everything but applying. */
export const openOwnPool = (target: Target): Sql => openPool(target, { purpose: "agent", max: 4 });
