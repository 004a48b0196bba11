// Opens and closes this node's database to writers. Closed is the default: only openGuard opens, for one postmaster.
// Never returns from fence() while a session of the application that began before could still commit.
import { setTimeout as delay } from "node:timers/promises";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { AgentError, RefusedError } from "../errors.ts";
import type { Sql } from "../postgres/connect.ts";

export interface GuardChange {
  readonly dbname: string;
  readonly epoch: number;
  /** The state to show, e.g. `serving`. */
  readonly state: string;
}

/** How long a session that was told to end may take; a backend deep in I/O does not look at once. */
const endTimeoutMs = 10_000;
/** Nobody takes writes meanwhile. */
const pollMs = 3;

/** Writes who this node is. The guard is closed unless it was open for the same role already. */
export async function ensureNode(
  sql: Sql,
  { node, role }: { node: string; role: "primary" | "secondary" },
): Promise<void> {
  await sql`INSERT INTO ha.state AS s (node, role, state) VALUES (${node}, ${role}, 'starting')
    ON CONFLICT (id) DO UPDATE SET node = excluded.node, role = excluded.role, state = 'starting', writable = false,
      opened_at = NULL, updated_at = now()
    WHERE s.node <> excluded.node OR s.role <> excluded.role`;
}

/** Opens the database to writers, for as long as this postmaster runs; ends the client sessions so that they ask anew. */
export async function openGuard(sql: Sql, { dbname, epoch, state }: GuardChange): Promise<void> {
  await change(sql, dbname, true, epoch, state);
  await endSessions(sql, dbname);
}

/** Closes the database to writers and ends the client sessions, at once. To lose no writer's work use fence(). */
export async function closeGuard(sql: Sql, { dbname, epoch, state }: GuardChange): Promise<void> {
  await change(sql, dbname, false, epoch, state);
  await endSessions(sql, dbname);
}

/** True if this postmaster was opened to writers. */
export async function guardIsOpen(sql: Sql): Promise<boolean> {
  const [{ open }] = await sql<{ open: boolean }[]>`SELECT ha.guard_is_open() AS open`;
  return open;
}

/** Transactions prepared for two-phase commit in that database: fence() neither waits for them nor ends them. */
export async function preparedTransactions(sql: Sql, dbname: string): Promise<string[]> {
  const rows = await sql<{ gid: string }[]>`SELECT gid FROM pg_prepared_xacts WHERE database = ${dbname} ORDER BY gid`;
  return rows.map(({ gid }) => gid);
}

/**
 * Closes the guard, lets transactions that have written already commit within `timeoutMs`, ends those that do not and
 * then every other client session. What the application committed lies before the LSN returned, and nothing comes after.
 *
 * All sessions have to end, not only the writers: one that passed the trigger just before the close, or whose snapshot
 * (repeatable read) is from before it, has no transaction id yet and could still write.
 *
 * Throws RefusedError where one has prepared its transaction: that belongs to no session, and could commit at any time.
 */
export async function fence(
  sql: Sql,
  { dbname, timeoutMs, state, epoch }: { dbname: string; timeoutMs: number; state?: string; epoch?: number },
): Promise<Lsn> {
  await change(sql, dbname, false, epoch, state);
  const deadline = Date.now() + timeoutMs;
  while (Date.now() < deadline && await countWriters(sql, dbname) > 0) await delay(pollMs);
  await endSessions(sql, dbname);
  const prepared = await preparedTransactions(sql, dbname);
  if (prepared.length > 0) {
    throw new RefusedError(
      `Cannot fence ${dbname}: ${prepared.length} prepared transactions are open`,
      "COMMIT PREPARED or ROLLBACK PREPARED them; see pg_prepared_xacts",
    );
  }
  // Commits with the log flushed, whatever synchronous_commit the application's last ones had. One transaction, one way.
  await sql.unsafe(`SET LOCAL session_replication_role = replica; SET LOCAL synchronous_commit = local;
    UPDATE ha.state SET updated_at = now()`).simple();
  const [{ lsn }] = await sql<{ lsn: string }[]>`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
  return parseLsn(lsn);
}

async function change(sql: Sql, dbname: string, writable: boolean, epoch?: number, state?: string): Promise<void> {
  const [row] = await sql<{ changed: boolean }[]>`
    SELECT ha.change_guard(${writable}, ${epoch ?? null}, ${state ?? null}) AS changed
    WHERE current_database() = ${dbname}`;
  if (row?.changed) return;
  throw new RefusedError(
    `Cannot ${writable ? "open" : "close"} the guard of ${dbname}: no role is written into it`,
    "run agent setup on this node first",
  );
}

/** Sessions of the application: all but our own, which have both our name and our user, and PostgreSQL's own workers. */
const ofApplication = (sql: Sql, dbname: string) =>
  sql`datname = ${dbname} AND pid <> pg_backend_pid()
    AND NOT (application_name LIKE 'hapair %' AND usesysid = (SELECT oid FROM pg_roles WHERE rolname = current_user))
    AND backend_type NOT IN ('walsender', 'autovacuum worker', 'parallel worker')`;

async function countWriters(sql: Sql, dbname: string): Promise<number> {
  const [{ writers }] = await sql<{ writers: number }[]>`SELECT count(*)::int AS writers FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND ${ofApplication(sql, dbname)}`;
  return writers;
}

/** Ends the sessions that are there now and waits until they are gone: until then one could still be committing. */
async function endSessions(sql: Sql, dbname: string): Promise<void> {
  const ended = await sql<{ pid: number; began: string }[]>`
    SELECT pid, backend_start::text AS began, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE ${ofApplication(sql, dbname)}`;
  const deadline = Date.now() + endTimeoutMs;
  const keys = ended.map(({ pid, began }) => `${pid} ${began}`);
  while (keys.length > 0) {
    const left = await sql<{ pid: number }[]>`SELECT pid FROM pg_stat_activity
      WHERE pid || ' ' || backend_start = ANY (${keys})`;
    if (left.length === 0) return;
    if (Date.now() >= deadline) {
      throw new AgentError(
        `Cannot end all sessions of ${dbname}: backends ${left.map(({ pid }) => pid).join(", ")} do not end`,
        "see pg_stat_activity for what they wait for; end them, or restart PostgreSQL",
      );
    }
    await delay(pollMs);
  }
}
