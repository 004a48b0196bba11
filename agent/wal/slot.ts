// The persistent logical slot that a node captures its own changes through: made, found, dropped.
// Never replaces a slot that is there: what the peer has not confirmed yet lives in it.
import { setTimeout as delay } from "node:timers/promises";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { AgentError, RefusedError } from "../errors.ts";
import { errorCode, type Sql } from "../postgres/connect.ts";

interface SlotRow {
  plugin: string | null;
  here: boolean;
  wal_status: string | null;
  active_pid: number | null;
  confirmed: string | null;
}

async function readSlot(sql: Sql, name: string): Promise<SlotRow | undefined> {
  const [row] = await sql<SlotRow[]>`
    select plugin, database = current_database() as here, wal_status, active_pid,
      confirmed_flush_lsn::text as confirmed
    from pg_replication_slots where slot_name = ${name}`;
  return row;
}

/** The slot, once whoever may be making it just now is done. */
async function readMadeSlot(sql: Sql, name: string, timeoutMs: number): Promise<SlotRow | undefined> {
  const deadline = Date.now() + timeoutMs;
  while (true) {
    const row = await readSlot(sql, name);
    const beingMade = row?.plugin === "pgoutput" && row.here && row.confirmed === null && row.active_pid !== null;
    if (!beingMade || Date.now() > deadline) return row;
    await delay(50);
  }
}

/** Makes the slot, or finds it as it is. Returns the position from which it has everything. */
export async function ensureSlot(sql: Sql, name: string, { timeoutMs = 30_000 } = {}): Promise<Lsn> {
  const found = await readMadeSlot(sql, name, timeoutMs);
  if (found) return usable(found, name);
  const session = await sql.reserve();
  try {
    // The server waits here for every transaction that was open before, however long that takes.
    await session`select set_config('statement_timeout', ${String(timeoutMs)}, false)`;
    const [{ lsn }] = await session<{ lsn: string }[]>`
      select lsn::text from pg_create_logical_replication_slot(${name}, 'pgoutput')`;
    return parseLsn(lsn);
  } catch (error) {
    // The running agent and a command that makes a pack may both find it missing.
    const other = errorCode(error) === "42710" ? await readMadeSlot(sql, name, timeoutMs) : undefined;
    if (other) return usable(other, name);
    throw await creationError(sql, name, error);
  } finally {
    await session`reset statement_timeout`.finally(() => session.release());
  }
}

function usable(row: SlotRow, name: string): Lsn {
  if (row.plugin !== "pgoutput" || !row.here || row.confirmed === null) {
    throw new RefusedError(
      `Cannot use replication slot ${name}: it belongs to something else`,
      `if nobody needs it: select pg_drop_replication_slot('${name}')`,
    );
  }
  if (row.wal_status === "lost") {
    throw new RefusedError(
      `Cannot use replication slot ${name}: the server has removed WAL that it needed`,
      "make a new pack with agent setup primary and set the secondary up again",
    );
  }
  return parseLsn(row.confirmed);
}

async function creationError(sql: Sql, name: string, error: unknown): Promise<unknown> {
  const code = errorCode(error);
  if (code === "53400") {
    return new AgentError(
      `Cannot make replication slot ${name}: all slots are taken`,
      "raise max_replication_slots and restart the server",
      { cause: error },
    );
  }
  if (code !== "57014") return error;
  const [holder] = await sql<{ pid: number | null; who: string; seconds: string }[]>`
    select pid, coalesce(usename, '?') || ' in database ' || coalesce(datname, '?') as who,
      extract(epoch from now() - xact_start)::int::text as seconds, xact_start as since
    from pg_stat_activity
    where backend_xid is not null and pid <> pg_backend_pid()
    union all
    select null, owner || ' in database ' || database || ', prepared as ' || quote_literal(gid),
      extract(epoch from now() - prepared)::int::text, prepared
    from pg_prepared_xacts
    order by since limit 1`;
  if (!holder) return error;
  return new AgentError(
    `Cannot make replication slot ${name}: a transaction of ${holder.who} has been open for ${holder.seconds} s`,
    holder.pid === null
      ? "commit or roll back that prepared transaction, and try again"
      : `wait until it ends, or end it: select pg_terminate_backend(${holder.pid})`,
    { cause: error },
  );
}

/** Drops the slot, its walsender ended first. No error where there is none. */
export async function dropSlot(sql: Sql, name: string, { timeoutMs = 10_000 } = {}): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (true) {
    const row = await readSlot(sql, name);
    if (!row) return;
    if (row.active_pid === null) {
      try {
        await sql`select pg_drop_replication_slot(${name})`;
        return;
      } catch (error) {
        const code = errorCode(error);
        if (code === "42704") return; // dropped meanwhile
        if (code !== "55006") throw error; // taken up again meanwhile
      }
    } else await sql`select pg_terminate_backend(${row.active_pid})`;
    if (Date.now() > deadline) {
      throw new AgentError(`Cannot drop replication slot ${name}: it is in use again and again`, "stop its reader");
    }
    await delay(50);
  }
}
