// Pulls the peer's change stream and applies it, for ever: connects, resumes after what is recorded here, applies batch
// by batch, and starts again after any failure. Never reads ahead by more than one batch's limits.
import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { FrameReader, type TakeRow } from "../change/frames.ts";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { idlePrefix } from "../change/marks.ts";
import { timeToMs } from "../change/pgoutput.ts";
import { reason } from "../errors.ts";
import { errorCode, type Sql } from "../postgres/connect.ts";
import { Applier, type ApplierDeps, takeOrigin } from "./applier.ts";
import { type Batch, Inbox } from "./inbox.ts";
import { collectMs, oneAtATime, waitsForDisk } from "./pace.ts";
import { SchemaMismatch } from "./plan.ts";

export interface Progress {
  /** How far the peer's stream is applied here, durably (the peer's LSN). */
  readonly position: Lsn;
  /** How far the peer had applied ours by then (our LSN). */
  readonly seen: Lsn;
  readonly idle: boolean;
}

export interface ReceiverDeps extends Pick<ApplierDeps, "role" | "own" | "policyOf" | "onConflict" | "fetchRow"> {
  /** Opens the peer's stream; it ends when `signal` aborts. */
  readonly openStream: (after: Lsn, signal: AbortSignal) => Promise<Readable>;
  /**
   * A pool of one connection for applying (see ApplierDeps); `onClose` when that connection has closed; `givesWay`: in a
   * deadlock with the application.
   */
  readonly openSql: (onClose: () => void, givesWay: boolean) => Sql;
  /** Resolves when own changes can be told from the peer's; awaited before anything of the peer's is applied. */
  readonly ready: () => Promise<void>;
  readonly onProgress: (progress: Progress) => void;
  /** Why nothing is applied at the moment; null when that is over. `remedy` is for people. */
  readonly onTrouble: (problem: { message: string; remedy: string } | null) => void;
  /** The application may write here: only beside it can there be a deadlock. */
  readonly hasWriters: () => boolean;
  /** Keeps a batch from running while the guard is being opened. */
  readonly exclusively: <T>(run: () => Promise<T>) => Promise<T>;
}

export interface ReceiverStatus {
  readonly connected: boolean;
  readonly applied: Lsn;
  /** How far the peer's WAL is known to hold nothing that is not applied here. */
  readonly reached: Lsn;
  readonly pendingBytes: number;
  /** Age of the last applied transaction when it was applied, in seconds. */
  readonly lagSeconds: number;
  readonly transactions: number;
  /** For how long the batch at hand has been applied. */
  readonly applyingMs: number;
}

/** What is held at most of what has arrived. */
export const limits = { maxOps: 50_000, maxBytes: 8 * 1024 * 1024 };
/** How long progress without data may wait until it is recorded. */
const idleRecordMs = 1000;
/** How long stopping waits for the batch at hand. */
const stopMs = 10_000;
/**
 * A batch locks rows of many transactions in one, in its own order: beside an application that always writes the same rows
 * that ends in deadlocks. After one, so many batches are of a single transaction of the peer's, in its order.
 */
const carefulBatches = 1000;
/** After so many deadlocks in a row it is the application's turn to give way. */
const mostDeadlocks = 5;
const retryMs = { first: 100, most: 5000 };

export class Receiver {
  private stopping: AbortController | null = null;
  private running: Promise<void> = Promise.resolve();
  private inbox: Inbox | null = null;
  private connected = false;
  /** Something has been taken from the inbox and is not applied yet. */
  private busy = false;
  private applyingSince: number | null = null;
  private applied: Lsn = 0n;
  /** How far the peer was told that we are; null: this process has told nothing yet. */
  private told: Lsn | null = null;
  private lagSeconds = 0;
  private transactions = 0;
  private failures = 0;
  /** Deadlocks since the last batch that went through, and batches still to be applied a transaction at a time. */
  private deadlocks = 0;
  private careful = 0;

  constructor(private readonly deps: ReceiverDeps) {}

  start(): void {
    if (this.stopping) return;
    this.stopping = new AbortController();
    this.running = this.run(this.stopping.signal);
  }

  /** Resolves when the batch at hand is committed or given up and the connections are closed. */
  async stop(): Promise<void> {
    this.stopping?.abort();
    await this.running;
    this.stopping = null;
  }

  /** How far the peer's stream is applied, for who has not been started yet. */
  async readApplied(sql: Sql): Promise<void> {
    if (this.applied > 0n) return;
    const [{ applied }] = await sql`SELECT applied_lsn::text AS applied FROM ha.progress`;
    if (parseLsn(applied) === 0n) return; // asked again with every look: nothing may be written for that
    // An earlier agent may have committed it without waiting for the disk; this commit waits.
    await sql.begin(async (tx) => {
      await tx`SET LOCAL synchronous_commit = local`;
      await tx`SELECT pg_logical_emit_message(true, ${idlePrefix}::text, '')`;
    });
    this.applied = parseLsn(applied);
  }

  /** Ends the session at hand with this error; it starts anew by itself. */
  giveUp: (error: Error) => void = () => {};

  /** Tries to connect now rather than after the pause that failures brought. */
  wake: () => void = () => {};

  status(): ReceiverStatus {
    const told = this.inbox?.peerPosition ?? 0n;
    const ahead = told - this.applied;
    const nothingLeft = this.connected && !this.busy && this.inbox?.empty && told > this.applied;
    return {
      connected: this.connected,
      applied: this.applied,
      reached: nothingLeft ? told : this.applied,
      pendingBytes: this.connected && !nothingLeft && ahead > 0n ? Number(ahead) : 0,
      lagSeconds: this.lagSeconds,
      transactions: this.transactions,
      applyingMs: this.applyingSince === null ? 0 : performance.now() - this.applyingSince,
    };
  }

  private async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.session(signal);
      } catch (error) {
        if (errorCode(error) === "40P01") {
          this.deadlocks++;
          this.careful = carefulBatches;
        }
        if (!signal.aborted) this.deps.onTrouble(troubleOf(error));
      }
      this.connected = false;
      this.inbox = null;
      const pauseMs = Math.min(retryMs.most, retryMs.first * 2 ** Math.min(this.failures++, 10));
      const woken = new Promise<void>((resolve) => this.wake = resolve);
      await Promise.race([delay(pauseMs, undefined, { signal }).catch(() => undefined), woken]);
    }
  }

  private async session(signal: AbortSignal): Promise<void> {
    const ending = new AbortController();
    const abort = () => ending.abort();
    signal.addEventListener("abort", abort);
    // A query whose connection closes may never be answered: the whole session is over then, at once.
    let over = false;
    let lost: (error: Error) => void = () => {};
    const closed = new Promise<never>((_, reject) => lost = reject);
    closed.catch(() => undefined);
    const sql = this.deps.openSql(
      () => over || lost(new Error("the connection to PostgreSQL was closed")),
      this.deadlocks < mostDeadlocks,
    );
    this.giveUp = lost;
    const late = () => lost(new Error("the batch at hand did not end in time"));
    signal.addEventListener("abort", () => void setTimeout(late, stopMs).unref());
    try {
      await Promise.race([this.pull(sql, ending.signal), closed]);
    } finally {
      over = true;
      this.applyingSince = null;
      signal.removeEventListener("abort", abort);
      ending.abort();
      await sql.end({ timeout: 0 });
    }
  }

  private async pull(sql: Sql, ending: AbortSignal): Promise<void> {
    await takeOrigin(sql);
    const [progress] = await sql`
      SELECT applied_lsn::text, coalesce(peer_seen, '0/0')::text AS peer_seen FROM ha.progress`;
    const [applied, seen] = [parseLsn(progress.applied_lsn), parseLsn(progress.peer_seen)];
    const inbox = new Inbox(applied, seen, limits);
    const applier = new Applier({ ...this.deps, sql, inbox });
    // This waits for our own relay, which may wait for the peer, and that for us: so not with a stream that nobody reads.
    await this.deps.own()?.verdictsRolledBack();
    // The peer readies its stream while this session is readied. What fails meanwhile shows when it is awaited, or read.
    const opening = this.deps.openStream(applied, ending);
    opening.then((stream) => stream.on("error", () => undefined), () => undefined);
    await applier.start();
    // The peer may never have heard of the last of it, nor may that be on the disk.
    if (applied > 0n && applied !== this.told) {
      await this.deps.exclusively(() => applier.recordProgress(applied, seen, true));
    }
    this.progressed(applied, seen, true);
    const stream = await opening;
    // Whatever ends this session, nothing of the stream is taken any more.
    ending.addEventListener("abort", () => stream.destroy());
    this.inbox = inbox;
    this.connected = true;
    this.failures = 0;
    await this.applyAll(stream, inbox, applier, ending);
  }

  private async applyAll(stream: Readable, inbox: Inbox, applier: Applier, signal: AbortSignal): Promise<void> {
    const frames = new FrameReader();
    const takeRow: TakeRow = (chunk, start, end) => inbox.takeRow(chunk, start, end);
    let failure: Error | null = null;
    let wake = () => {};
    let enough = () => inbox.ready;
    const fail = (error: Error | null) => {
      failure ??= error ?? new Error("the peer ended the stream");
      wake();
    };
    stream.on("data", (chunk) => {
      if (failure) return;
      try {
        for (const frame of frames.read(chunk, takeRow)) inbox.push(frame);
      } catch (error) {
        fail(error as Error);
      }
      if (inbox.full) stream.pause();
      if (enough()) wake();
    });
    stream.on("error", fail);
    stream.on("close", () => fail(null));
    if (stream.destroyed) fail(stream.errored);
    signal.addEventListener("abort", () => wake(), { once: true });
    const woken = async (ms: number | null) => {
      const called = new Promise<void>((resolve) => wake = resolve);
      const timer = ms === null ? undefined : setTimeout(() => wake(), ms);
      await called;
      clearTimeout(timer);
    };
    let unrecorded: Batch | null = null;
    // What is committed without waiting for the disk, since a commit that did.
    let unflushed: Batch | null = null;
    let flushedAt = performance.now();
    const flush = async ({ position, seen }: Batch) => {
      await this.deps.exclusively(() => applier.recordProgress(position, seen, true));
      unflushed = null;
      flushedAt = performance.now();
      this.progressed(position, seen, false);
    };
    const waits = () =>
      waitsForDisk({
        more: inbox.hasWhole && !failure && !signal.aborted,
        sinceFlushMs: performance.now() - flushedAt,
        merges: this.deps.own() !== null,
      });
    let lastTransactions = 0;
    let takenAt = 0;
    while (!signal.aborted) {
      if (!inbox.ready) {
        if (unflushed && !applier.inTransaction) {
          await flush(unflushed);
          continue; // something may have come meanwhile
        }
        this.busy = false;
        if (failure) throw failure;
        await woken(unrecorded ? idleRecordMs : null);
      }
      this.busy = true;
      const ms = collectMs({ lastTransactions, sinceTakenMs: performance.now() - takenAt, full: inbox.full });
      if (ms > 0 && inbox.ready && !failure && !signal.aborted) {
        enough = () => inbox.full;
        await woken(ms);
        enough = () => inbox.ready;
      }
      takenAt = performance.now();
      const batch = inbox.take(oneAtATime(this.careful, this.deps.hasWriters()));
      if (stream.isPaused() && !inbox.full) stream.resume();
      if (!batch) {
        if (!unrecorded || applier.inTransaction || failure || signal.aborted) continue;
        const { position, seen } = unrecorded;
        unrecorded = null;
        await this.deps.exclusively(() => applier.recordProgress(position, seen, true));
        this.progressed(position, seen, true);
        continue;
      }
      lastTransactions = batch.ended.length;
      if (batch.ops.length > 0) await this.deps.ready();
      let flushed = true;
      await this.deps.exclusively(async () => {
        this.applyingSince = performance.now();
        flushed = await applier.apply(batch, waits);
        this.applyingSince = null;
      });
      this.deadlocks = 0;
      if (this.careful > 0) this.careful--;
      if (!batch.commits) continue;
      this.transactions += batch.ended.length;
      const { committedAt } = batch;
      if (committedAt !== null) {
        this.lagSeconds = Math.max(0, (Date.now() - timeToMs(committedAt)) / 1000);
        unrecorded = null;
      } else if (!batch.idle) unrecorded = batch;
      this.deps.onTrouble(null);
      if (!flushed) {
        unflushed = batch;
        continue;
      }
      if (committedAt !== null) {
        unflushed = null;
        flushedAt = performance.now();
      }
      // Without data there is nothing durable to tell of yet, but what the peer has seen counts at once.
      this.progressed(committedAt !== null ? batch.position : this.applied, batch.seen, batch.idle);
    }
  }

  private progressed(position: Lsn, seen: Lsn, idle: boolean): void {
    this.applied = position;
    this.told = position;
    this.deps.onProgress({ position, seen, idle });
  }
}

function troubleOf(error: unknown): { message: string; remedy: string } {
  if ((error as { code?: unknown }).code === "ECONNRESET" || reason(error) === "aborted") {
    return { message: "the peer's stream of changes was cut off", remedy: "it is opened again by itself" };
  }
  if (error instanceof SchemaMismatch) {
    const ddl = error.ddl
      ? `as superuser: SET default_transaction_read_only = off; SET session_replication_role = replica; ${error.ddl};`
      : "make the table equal on both servers";
    return { message: error.message, remedy: `on this server run, ${ddl}` };
  }
  const remedy = (error as { remedy?: unknown }).remedy;
  return { message: reason(error), remedy: typeof remedy === "string" ? remedy : "it is tried again by itself" };
}
