// Wires one node's capture: slot -> relay -> history of own transactions. It runs while this node may write: always at
// the primary, at the secondary from before its guard opens until it is back in standby with everything confirmed.
import { setTimeout as delay } from "node:timers/promises";
import type { Lsn } from "../change/lsn.ts";
import { fencePrefix, markPrefix, slotName } from "../change/marks.ts";
import { parseQuestions, parseVerdicts } from "../apply/conflict_log.ts";
import type { OwnChanges } from "../apply/own_changes.ts";
import { reason } from "../errors.ts";
import { History, parseSnapshot, type Snapshot } from "../merge/history.ts";
import type { Sql, Target } from "../postgres/connect.ts";
import { readTables } from "../postgres/tables.ts";
import { microsecondsOf } from "../postgres/times.ts";
import { Relay, type Sink } from "../relay/relay.ts";
import type { Role } from "../report.ts";
import { startSession } from "../wal/session.ts";
import { ensureSlot } from "../wal/slot.ts";

/** How often the history's snapshot moves on, so that what the peer has seen can be forgotten. */
const snapshotMs = 30_000;
const retryMs = 500;
/** How long the primary's applier waits for its relay. */
const patienceMs = 2000;

export interface CaptureDeps {
  readonly role: Role;
  readonly sql: Sql;
  readonly target: Target;
  /** Whether the peer told, when it last pulled, that it has changes of its own. */
  readonly peerCaptures: () => boolean;
  /** null: what was wrong is over. */
  readonly onTrouble: (message: string | null) => void;
}

export class Capture {
  private readonly relay: Relay;
  private timer: ReturnType<typeof setInterval> | undefined;
  private stopped = false;
  /** Resolves once every own transaction that the peer has not confirmed is noted. */
  readonly ready: Promise<void>;
  private isReady = false;
  private fails = false;
  private waits = 0;
  /** A mark that the primary's applier did not wait for has not passed yet. */
  private relayIsLate = false;

  private constructor(private readonly deps: CaptureDeps, readonly history: History) {
    this.relay = new Relay({
      role: deps.role,
      openSession: (confirmed, onChunk) => startSession(deps.target, slotName, confirmed, onChunk),
      mark: (text) => this.mark(text),
      ledger: {
        noteCommit: (xid, lsn, time) => history.noteCommit(xid, lsn, time),
        noteDelete: (row, lsn, time) => history.noteDelete(row, lsn, time),
        noteTruncate: (schema, table, lsn, time) => history.noteTruncate(schema, table, lsn, time),
        noteVerdict: (content, lsn) => {
          for (const { name, renews, time } of parseVerdicts(content)) {
            history.renewals.note(name, renews, lsn, time === undefined ? null : BigInt(time));
          }
        },
        noteQuestion: (content, lsn) => {
          for (const { name } of parseQuestions(content)) history.questions.note(name, lsn);
        },
        prune: (seen) => history.prune(seen),
      },
      readKeys: () => readKeys(deps.sql),
      peerMayWrite: deps.peerCaptures,
      onFailure: (message) => this.failed(message),
      onRead: () => this.works(),
    });
    this.relay.start();
    this.ready = this.untilNoted();
  }

  /** Makes the slot, or goes on from the one that is there. */
  static async start(deps: CaptureDeps): Promise<Capture> {
    await ensureSlot(deps.sql, slotName);
    const capture = new Capture(deps, new History(await takeSnapshot(deps.sql)));
    capture.timer = setInterval(() => {
      capture.relay.renewKeys().then(() => capture.relay.noted()).catch((error) => capture.failed(reason(error)));
    }, snapshotMs);
    return capture;
  }

  /** Ends the stream and the reading; the slot stays. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearInterval(this.timer);
    await this.relay.stop();
  }

  serve(after: Lsn, sink: Sink, signal: AbortSignal): Promise<void> {
    return this.relay.serve(after, sink, signal);
  }

  acknowledge(seen: Lsn): void {
    this.relay.acknowledge(seen);
  }

  notePeerProgress(applied: Lsn): void {
    this.relay.notePeerProgress(applied);
  }

  /** Every own transaction is known, and the peer has confirmed all of them and answered every question. */
  get finished(): boolean {
    const { history } = this;
    return this.isReady && history.pending().transactions === 0 && history.questions.answered && history.renewals.empty;
  }

  /** Writes the transaction that the peer's applied position must reach for everything before it to be applied. */
  async writeFence(): Promise<void> {
    await this.deps.sql`SELECT pg_logical_emit_message(true, ${fencePrefix}, '')`;
  }

  /** This node's own changes as the applier asks for them. */
  ownChanges(): OwnChanges {
    const { history, relay } = this;
    return {
      isUnseen: (writer, seen) => history.isUnseen(writer, seen),
      lastVerdict: (row, seen) => history.renewals.lastUnseen(row, seen),
      askedAbout: (row, seen) => history.questions.isOpen(row, seen),
      noteQuestion: (row) => history.questions.ask(row),
      withdrawQuestion: (row) => history.questions.withdraw(row),
      verdictUnseen: (row, seen) => history.renewals.isUnseen(row, seen),
      renewedRows: (prefix, seen) => history.renewals.unseenRows(prefix, seen),
      renewedTime: (row) => history.renewals.timeOf(row),
      horizon: (seen) => history.horizon(seen),
      noteVerdict: (row, renews, time) => history.renewals.decide(row, renews, time),
      withdrawVerdict: (row) => history.renewals.withdraw(row),
      verdictsCommitted: () => {
        history.renewals.committed();
        history.questions.committed();
      },
      async verdictsRolledBack() {
        if (!history.renewals.undecided && !history.questions.undecided) return;
        // The answer to a COMMIT may have been lost: then the stream brings what it wrote.
        await relay.noted();
        history.renewals.rolledBack();
        history.questions.rolledBack();
      },
      knownDeleted: (row, seen) => history.deletedUnseen(row, seen),
      allKnown: () => this.untilKnown(),
      deletedUnseen: async (row, seen) => {
        const known = history.deletedUnseen(row, seen);
        if (known !== null) return known;
        await this.untilKnown();
        return history.deletedUnseen(row, seen);
      },
    };
  }

  /** The applier waits for the relay at this moment, not for PostgreSQL. */
  get waiting(): boolean {
    return this.waits > 0;
  }

  /**
   * Until every own transaction committed by now is known. While the peer is slow to take its stream the relay cannot go
   * on, and the peer's applier may be waiting in its turn: so the primary does not wait for long, and the secondary does.
   */
  private async untilKnown(): Promise<boolean> {
    if (this.relayIsLate) return false;
    this.waits++;
    try {
      const noted = this.relay.noted().then(() => true);
      if (this.deps.role === "secondary") return await noted;
      const inTime = await Promise.race([noted, delay(patienceMs).then(() => false)]);
      if (!inTime) {
        this.relayIsLate = true;
        const caughtUp = () => void (this.relayIsLate = false);
        noted.then(caughtUp, caughtUp);
      }
      return inTime;
    } finally {
      this.waits--;
    }
  }

  /** A server that is just restarting must not leave the applier waiting for ever. */
  private async untilNoted(): Promise<void> {
    while (!this.stopped) {
      try {
        await this.relay.noted();
        this.isReady = true;
        return;
      } catch (error) {
        this.failed(reason(error));
        await delay(retryMs);
      }
    }
  }

  private failed(message: string): void {
    this.fails = true;
    this.deps.onTrouble(message);
  }

  private works(): void {
    if (!this.fails) return;
    this.fails = false;
    this.deps.onTrouble(null);
  }

  private async mark(text: string): Promise<() => void> {
    const snapshot = await takeSnapshot(this.deps.sql);
    await this.deps.sql`SELECT pg_logical_emit_message(true, ${markPrefix}, ${text}::text)`;
    return () => this.history.renewSnapshot(snapshot);
  }
}

async function readKeys(sql: Sql): Promise<Map<string, readonly string[]>> {
  return new Map((await readTables(sql)).map(({ schema, name, primaryKey }) => [`${schema}\0${name}`, primaryKey]));
}

async function takeSnapshot(sql: Sql): Promise<Snapshot> {
  const [{ snapshot, time }] = await sql.unsafe(
    `SELECT pg_current_snapshot()::text AS snapshot, ${microsecondsOf("clock_timestamp()")} AS time`,
  );
  return parseSnapshot(snapshot, BigInt(time));
}
