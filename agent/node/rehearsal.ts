// A rehearsal of the merge: the peer's backlog is applied by the real applier in one transaction that is rolled back. What
// it would log is told of; nothing else remains of it, here or in the peer's stream. Bounded in memory and time.
import { performance } from "node:perf_hooks";
import type { Readable } from "node:stream";
import { getLogger } from "@logtape/logtape";
import type { PositionAnswer } from "../api/schemas.ts";
import { Applier, type ApplierDeps, takeOrigin } from "../apply/applier.ts";
import { type Batch, Inbox } from "../apply/inbox.ts";
import { SchemaMismatch } from "../apply/plan.ts";
import { limits, type ReceiverDeps } from "../apply/receiver.ts";
import { RehearsedChanges } from "../apply/rehearsed_changes.ts";
import { FrameReader } from "../change/frames.ts";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { ownSchema } from "../change/marks.ts";
import { AgentError, reason, RefusedError, UnreachableError } from "../errors.ts";
import { errorCode, isUnreachable, type Sql } from "../postgres/connect.ts";
import { withDeadline } from "../postgres/deadline.ts";

export interface RehearsalDeps
  extends
    Pick<ApplierDeps, "role" | "own" | "policyOf" | "fetchRow">,
    Pick<ReceiverDeps, "openStream" | "ready" | "exclusively"> {
  /** Called for each try, of which the last counts; answers what is told of each conflict. */
  readonly begin: () => ApplierDeps["onConflict"];
  /** How far the peer's changes go by now. */
  readonly position: () => Promise<PositionAnswer>;
  /** Throws where the peer cannot be reached. */
  readonly ask: () => Promise<unknown>;
  /** A pool of one connection for applying (see ApplierDeps), with these settings besides. */
  readonly openSql: (onClose: () => void, settings: Readonly<Record<string, string>>) => Sql;
  /** For ending a session that was lost on the way. */
  readonly sql: Sql;
}

export interface Waiting {
  readonly transactions: number;
  readonly changes: number;
}

/** It must not hold the application up for ever. */
const lockTimeout = "10s";
const mostTries = 3;
const cutOff = "the peer's stream of changes was cut off";
/** After so long without a byte of the stream the peer is asked whether it is there. */
const silentMs = 10_000;

const log = getLogger(["hapair", "rehearsal"]);

/** Rehearses what the peer has by now. Throws AgentErrors; the receiver must not run meanwhile. */
export async function rehearse(deps: RehearsalDeps, timeoutMs: number, signal: AbortSignal): Promise<Waiting> {
  const ending = new AbortController();
  const follow = () => ending.abort(signal.reason);
  signal.addEventListener("abort", follow);
  if (signal.aborted) follow();
  const timer = setTimeout(() => ending.abort(tooLong(timeoutMs)), timeoutMs);
  const ended = new Promise<never>((_, reject) => {
    const end = () => reject(ending.signal.reason);
    ending.signal.addEventListener("abort", end);
    if (ending.signal.aborted) end();
  });
  ended.catch(() => undefined);
  try {
    const { capturing, lsn } = await Promise.race([deps.position(), ended]);
    if (!capturing) return { transactions: 0, changes: 0 };
    for (let tries = 1;; tries++) {
      try {
        return await inOneSession(deps, parseLsn(lsn), timeoutMs, ending, ended);
      } catch (error) {
        // A deadlock with the application, in which it is the rehearsal that gives way.
        if (!errorCode(error)?.startsWith("40") || tries === mostTries) throw error;
      }
    }
  } catch (error) {
    throw explained(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", follow);
    ending.abort();
  }
}

async function inOneSession(
  deps: RehearsalDeps,
  target: Lsn,
  timeoutMs: number,
  ending: AbortController,
  ended: Promise<never>,
): Promise<Waiting> {
  let over = false;
  const lost = () => over || ending.abort(unreachable("the connection to PostgreSQL was closed"));
  // If this process stands still, the server ends the transaction by itself.
  const idle = { idle_in_transaction_session_timeout: String(timeoutMs) };
  const sql = deps.openSql(lost, { lock_timeout: lockTimeout, ...idle });
  const session: { pid?: number; rolledBack: boolean } = { rolledBack: false };
  try {
    return await Promise.race([run(deps, sql, target, session, ending), ended]);
  } finally {
    over = true;
    await sql.end({ timeout: 0 });
    // A statement that runs would keep its locks until it is done.
    if (session.pid !== undefined && !session.rolledBack) await endBackend(deps.sql, session.pid);
  }
}

async function run(
  deps: RehearsalDeps,
  sql: Sql,
  target: Lsn,
  session: { pid?: number; rolledBack: boolean },
  ending: AbortController,
): Promise<Waiting> {
  await takeOrigin(sql);
  const [progress] = await sql`SELECT pg_backend_pid() AS pid, applied_lsn::text AS applied,
    coalesce(peer_seen, '0/0')::text AS seen FROM ha.progress`;
  session.pid = progress.pid;
  const inbox = new Inbox(parseLsn(progress.applied), parseLsn(progress.seen), limits);
  const changes = new RehearsedChanges();
  const own = () => {
    const known = deps.own();
    return known && changes.over(known);
  };
  const applier = new Applier({ ...deps, onConflict: deps.begin(), own, sql, inbox, rehearsal: true });
  await applier.start();
  await deps.ready();
  const stream = await deps.openStream(inbox.arrived, ending.signal);
  const counted = new Counted();
  for await (const batch of batchesUpTo(target, stream, inbox, deps, ending)) {
    counted.add(batch);
    await deps.exclusively(() => applier.rehearse(batch));
  }
  await applier.rollBack();
  session.rolledBack = true;
  return counted;
}

/** What the peer sends, in batches, until everything before `target` has been among them. */
async function* batchesUpTo(
  target: Lsn,
  stream: Readable,
  inbox: Inbox,
  { ask }: RehearsalDeps,
  ending: AbortController,
): AsyncGenerator<Batch> {
  const frames = new FrameReader();
  let heardAt = performance.now();
  let waits = true;
  const watch = setInterval(() => {
    if (!waits || performance.now() - heardAt < silentMs) return;
    heardAt = performance.now();
    ask().catch((error) => ending.abort(error));
  }, silentMs / 2);
  const stop = () => {
    clearInterval(watch);
    stream.destroy();
  };
  ending.signal.addEventListener("abort", stop);
  try {
    for await (const chunk of stream) {
      waits = false;
      for (const frame of frames.read(chunk)) inbox.push(frame);
      const reached = inbox.arrived >= target;
      while (inbox.full || reached) {
        const batch = inbox.take();
        if (!batch) break;
        yield batch;
      }
      if (reached) return;
      heardAt = performance.now();
      waits = true;
    }
  } finally {
    stop();
    ending.signal.removeEventListener("abort", stop);
  }
  throw unreachable(cutOff);
}

/** Transactions with changes of the user's in them; what the agents write for themselves is nobody's business. */
class Counted implements Waiting {
  transactions = 0;
  changes = 0;
  private last: unknown = null;

  add({ ops }: Batch): void {
    for (const { relation, truncated, transaction } of ops) {
      if (relation ? relation.schema === ownSchema : truncated.length === 0) continue;
      this.changes++;
      if (transaction !== this.last) this.transactions++;
      this.last = transaction;
    }
  }
}

async function endBackend(sql: Sql, pid: number): Promise<void> {
  try {
    await withDeadline(sql`SELECT pg_terminate_backend(${pid}, 5000)`, 10_000, "end the session of the rehearsal");
  } catch (error) {
    log.warn("Cannot end the session of the rehearsal: {reason}", { reason: reason(error) });
  }
}

const unreachable = (why: string): UnreachableError =>
  new UnreachableError(`Cannot rehearse the merge: ${why}`, "see agent status, and try again");

const tooLong = (timeoutMs: number): AgentError =>
  new AgentError(
    `Cannot rehearse the merge: it was not done within ${Math.round(timeoutMs / 1000)} s; nothing was changed`,
    "give it more time with --timeout, at an hour when rows may stay locked for longer",
  );

/** The error to show for what ended a rehearsal. */
function explained(error: unknown): unknown {
  if (error instanceof AgentError) return error;
  if (error instanceof SchemaMismatch) {
    return new RefusedError(
      `Cannot rehearse the merge: ${error.message}`,
      "make the table equal on both servers: agent status on this server shows how, once the merge goes on",
      { cause: error },
    );
  }
  if (errorCode(error) === "55P03") {
    return new RefusedError(
      `Cannot rehearse the merge: the application has held a lock that it needs for ${lockTimeout}`,
      "try again when the application is quieter",
      { cause: error },
    );
  }
  if (errorCode(error)?.startsWith("40")) {
    return new RefusedError(
      "Cannot rehearse the merge: again and again it stood in the application's way, and gave up",
      "try again when the application is quieter",
      { cause: error },
    );
  }
  if (reason(error) === "aborted" || ["ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE"].includes(errorCode(error) ?? "")) {
    return unreachable(cutOff);
  }
  if (isUnreachable(error)) return unreachable(reason(error));
  return new AgentError(`Cannot rehearse the merge: ${reason(error)}`, "see the log of the agent", { cause: error });
}
