// Wires the two directions of one node's replication: its own changes out (capture, or only `seen` while it writes
// nothing), the peer's changes in. Decides nothing: what runs is told by the supervisor.
import type { IncomingMessage, ServerResponse } from "node:http";
import { getLogger } from "@logtape/logtape";
import type { PeerClient } from "../api/client.ts";
import type { PositionAnswer } from "../api/schemas.ts";
import { repeatProgress } from "../apply/applier.ts";
import type { ConflictEntry } from "../apply/conflict_log.ts";
import type { OwnChanges } from "../apply/own_changes.ts";
import { Receiver, type ReceiverDeps, type ReceiverStatus } from "../apply/receiver.ts";
import { Capture } from "./capture.ts";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { slotName } from "../change/marks.ts";
import { reason, RefusedError } from "../errors.ts";
import type { TablePolicy } from "../merge/policy.ts";
import { openPool, type Sql, type Target } from "../postgres/connect.ts";
import { Announcer } from "../relay/announcer.ts";
import type { Sink } from "../relay/relay.ts";
import type { Role } from "../report.ts";
import { dropSlot } from "../wal/slot.ts";
import { rehearse, type Waiting } from "./rehearsal.ts";

/** No pause between two statements of the applier is so long. */
const lostAnswerMs = 20_000;

const log = getLogger(["hapair", "replication"]);

export interface ReplicationDeps {
  readonly role: Role;
  readonly generation: string;
  readonly sql: Sql;
  readonly target: Target;
  readonly client: () => PeerClient;
  readonly policyOf: (label: string) => TablePolicy;
  /** True while no client can write here: with nothing of its own unseen, this node applies without looking. */
  readonly closed: () => boolean;
  /** An operator wants nothing of the peer's applied for now. */
  readonly held: () => boolean;
  readonly onProgress: () => void;
  readonly onConflict: (entry: ConflictEntry) => void;
  /** A lasting problem under a name, null when it is over. */
  readonly onTrouble: (name: string, problem: { message: string; remedy: string } | null) => void;
}

/** A row that is refused is logged in the database and nowhere else: PostgreSQL's own log would quote its values. */
const discreet = { log_min_messages: "fatal", log_statement: "none", log_parameter_max_length: "0" };

export class Replication {
  private capture: Capture | null = null;
  private readonly announcer = new Announcer();
  private readonly receiver: Receiver;
  /** What applying takes, in earnest or not. */
  private readonly applying: Pick<
    ReceiverDeps,
    "role" | "own" | "policyOf" | "fetchRow" | "openStream" | "ready" | "exclusively"
  >;
  private peerCaptures = true;
  private slotGone = false;
  private seen: Lsn = 0n;
  private guarding: Promise<unknown> = Promise.resolve();
  private starting: Promise<void> | null = null;
  private readonly streams = new Set<AbortController>();
  private rehearsal: { readonly ending: AbortController; readonly over: Promise<Waiting> } | null = null;

  constructor(private readonly deps: ReplicationDeps) {
    this.applying = {
      role: deps.role,
      own: () => this.own(),
      policyOf: deps.policyOf,
      fetchRow: (row) => deps.client().row(row),
      openStream: async (after, signal) =>
        await deps.client().openChanges({ after, generation: deps.generation, capturing: this.capturing }, signal),
      ready: async () => await this.capture?.ready,
      exclusively: (run) => this.exclusively(run),
    };
    this.receiver = new Receiver({
      ...this.applying,
      onConflict: deps.onConflict,
      openSql: (onClose, givesWay) => this.openApplySql(onClose, givesWay ? {} : { deadlock_timeout: "10s" }),
      hasWriters: () => this.capturing && !deps.closed(),
      onProgress: ({ position, seen, idle }) => {
        this.seen = seen;
        if (this.capture) this.capture.acknowledge(seen);
        else this.announcer.announce(position, idle);
        deps.onProgress();
      },
      onTrouble: (problem) => deps.onTrouble("apply", problem),
    });
  }

  get capturing(): boolean {
    return this.capture !== null;
  }

  /** Starts to capture own changes; the guard may open when this has resolved. Whole, or not at all; never twice at once. */
  startCapture(): Promise<void> {
    if (this.capture && !this.starting) return Promise.resolve();
    return this.starting ??= this.beginCapture().finally(() => this.starting = null);
  }

  private async beginCapture(): Promise<void> {
    this.slotGone = false;
    // The peer has to pull anew, and what we pull has to be looked at from now on.
    await this.receiver.stop();
    this.capture = await Capture.start({
      role: this.deps.role,
      sql: this.deps.sql,
      target: this.deps.target,
      peerCaptures: () => this.peerCaptures,
      onTrouble: (message) =>
        this.deps.onTrouble(
          "capture",
          message === null ? null : { message, remedy: "see the log of PostgreSQL; it is tried again by itself" },
        ),
    });
    const sql = this.openApplySql();
    try {
      await repeatProgress(sql);
    } catch (error) {
      await this.stopCapture();
      throw error;
    } finally {
      await sql.end({ timeout: 1 });
    }
    this.deps.onTrouble("capture", null);
    // Who pulled until now was told that nothing is captured.
    this.endStreams();
    this.receive();
  }

  /**
   * Ends capturing once the peer has confirmed everything; until then, and if an earlier agent left a slot behind, it
   * goes on. Safe to call again and again.
   */
  async endCapture(): Promise<void> {
    if (this.slotGone) return;
    if (!this.capture) {
      const [slot] = await this.deps.sql`SELECT FROM pg_replication_slots WHERE slot_name = ${slotName}`;
      if (slot) await this.startCapture();
      else this.slotGone = true;
      return;
    }
    if (!this.capture.finished) return;
    await this.receiver.stop();
    await this.stopCapture();
    await dropSlot(this.deps.sql, slotName);
    this.slotGone = true;
    this.receive();
  }

  private async stopCapture(): Promise<void> {
    const { capture } = this;
    if (!capture) return;
    this.endStreams();
    await capture.stop();
    this.capture = null;
  }

  async stopReceiving(): Promise<void> {
    await this.endRehearsal();
    await this.receiver.stop();
  }

  /** Nothing is received while the merge is held; how far it had come is told all the same. */
  async startReceiving(): Promise<void> {
    this.receive();
    if (this.mergeHeld) await this.receiver.readApplied(this.deps.sql);
  }

  private receive(): void {
    if (!this.mergeHeld) this.receiver.start();
  }

  /** Nothing of the peer's is applied for now. */
  get mergeHeld(): boolean {
    return this.deps.held() || this.rehearsing;
  }

  get rehearsing(): boolean {
    return this.rehearsal !== null;
  }

  /**
   * Rehearses the merge of what the peer has by now; nothing is received until it is over. `begin` is called for each try,
   * and answers what is to be told what would be logged. RefusedError while another rehearsal runs.
   */
  rehearse(options: {
    timeoutMs: number;
    signal: AbortSignal;
    begin: () => (entry: ConflictEntry) => void;
  }): Promise<Waiting> {
    if (this.rehearsal) {
      throw new RefusedError("Cannot rehearse the merge: another rehearsal runs", "wait for its end");
    }
    const ending = new AbortController();
    const over = this.runRehearsal(options, ending.signal).finally(() => {
      this.rehearsal = null;
      this.receive();
    });
    this.rehearsal = { ending, over };
    return over;
  }

  private async runRehearsal(
    { timeoutMs, signal, begin }: Parameters<Replication["rehearse"]>[0],
    ending: AbortSignal,
  ): Promise<Waiting> {
    await this.receiver.stop();
    const { deps } = this;
    const parts = {
      ...this.applying,
      begin,
      position: () => deps.client().position(),
      ask: () => deps.client().peer(),
      openSql: (onClose: () => void, settings: Readonly<Record<string, string>>) =>
        this.openApplySql(onClose, settings),
      sql: deps.sql,
    };
    return await rehearse(parts, timeoutMs, AbortSignal.any([signal, ending]));
  }

  private async endRehearsal(): Promise<void> {
    if (!this.rehearsal) return;
    const { ending, over } = this.rehearsal;
    ending.abort(new RefusedError("Cannot rehearse the merge: this node stops", "try again when it serves"));
    await over.catch((error) => log.info("{reason}", { reason: reason(error) }));
  }

  /** What `held` says has changed. */
  async holdChanged(): Promise<void> {
    if (!this.mergeHeld) return this.receive();
    await this.receiver.stop();
    this.deps.onTrouble("apply", null);
  }

  async stop(): Promise<void> {
    this.endStreams();
    await this.stopReceiving();
    await this.stopCapture();
  }

  /** The peer can be reached again: pull at once. */
  wake(): void {
    this.receiver.wake();
  }

  /**
   * Ends a session of the applier whose answer was lost: a batch is being applied, yet its backend has been idle for long.
   * Called now and then.
   */
  async watch(): Promise<void> {
    if (this.receiver.status().applyingMs < lostAnswerMs || this.capture?.waiting) return;
    const [idle] = await this.deps.sql`SELECT FROM pg_stat_activity WHERE application_name = 'hapair apply'
      AND datname = current_database() AND state LIKE 'idle%'
      AND clock_timestamp() - state_change > ${lostAnswerMs} * interval '1 millisecond'`;
    if (idle) this.receiver.giveUp(new Error("an answer of PostgreSQL to the applier was lost"));
  }

  /** Runs while no batch is being applied. */
  exclusively<T>(run: () => Promise<T>): Promise<T> {
    const result = this.guarding.then(run);
    this.guarding = result.catch(() => undefined);
    return result;
  }

  /** How far this node's changes go by now. A fence follows, so that whoever reads the stream comes to it. */
  async position(): Promise<PositionAnswer> {
    const [{ lsn }] = await this.deps.sql`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
    const { capturing } = this;
    await this.writeFence();
    return { capturing, lsn };
  }

  async writeFence(): Promise<void> {
    await this.capture?.writeFence();
  }

  /** How far the peer has durably applied this node's stream, as its report says it. */
  notePeerProgress(applied: string): void {
    this.capture?.notePeerProgress(parseLsn(applied));
  }

  /** `GET /v1/changes`: the peer pulls; the answer lasts until either side ends it. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const query = new URL(request.url ?? "/", "https://peer").searchParams;
    const after = parseQuery(query.get("after"));
    if (after === null || query.get("generation") !== this.deps.generation) {
      response.writeHead(after === null ? 400 : 409, { "content-type": "application/json" });
      const error = after === null ? "after is not an LSN" : "the stream belongs to another seed";
      response.end(
        JSON.stringify({
          error: `Cannot stream changes: ${error}`,
          remedy: "set the secondary up from the newest HAPack.zip",
        }),
      );
      return;
    }
    this.peerCaptures = query.get("capturing") === "1";
    const stream = new AbortController();
    this.streams.add(stream);
    response.on("close", () => stream.abort());
    response.writeHead(200, { "content-type": "application/octet-stream" });
    response.flushHeaders();
    const where = { after: query.get("after"), capturing: this.peerCaptures };
    log.debug("the peer pulls after {after} (capturing: {capturing})", where);
    try {
      const { capture } = this;
      if (!capture) return await this.announcer.serve(sinkOf(response), stream.signal);
      // Both have changes: what is ours must be known whole before the peer's are looked at, and the slot is one.
      if (this.peerCaptures) await capture.ready;
      await capture.serve(after, sinkOf(response), stream.signal);
    } finally {
      log.debug("the peer's pull after {after} has ended", where);
      this.streams.delete(stream);
      response.end();
    }
  }

  status(): ReceiverStatus & {
    capturing: boolean;
    seen: Lsn;
    pendingTransactions: number;
    oldestPending: bigint | null;
  } {
    const pending = this.capture?.history.pending() ?? { transactions: 0, oldest: null };
    return {
      ...this.receiver.status(),
      capturing: this.capturing,
      seen: this.seen,
      pendingTransactions: pending.transactions,
      oldestPending: pending.oldest,
    };
  }

  private own(): OwnChanges | null {
    const { capture } = this;
    if (!capture) return null;
    if (this.deps.closed() && capture.finished) return null;
    return capture.ownChanges();
  }

  private openApplySql(onClose?: () => void, more: Readonly<Record<string, string>> = {}): Sql {
    return openPool(this.deps.target, {
      purpose: "apply",
      max: 1,
      lasting: true,
      onClose,
      // A deadlock with the application is noticed here first, so that it is the applier that starts again.
      settings: { session_replication_role: "replica", deadlock_timeout: "100ms", ...discreet, ...more },
    });
  }

  private endStreams(): void {
    for (const stream of this.streams) stream.abort();
  }
}

function parseQuery(text: string | null): Lsn | null {
  try {
    return parseLsn(text ?? "");
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function sinkOf(response: ServerResponse): Sink {
  return {
    write: (frames) => response.write(frames),
    onDrain: (listener) => void response.on("drain", listener),
    end: () => void response.end(),
  };
}
