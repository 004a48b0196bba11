// The dull loop around the machine: gather, step, persist, act; then assert what the state demands, for ever.
// Never acts on a record that is not persisted, never takes two steps at once, never opens the guard before capture runs.
import { setTimeout as delay } from "node:timers/promises";
import { getLogger } from "@logtape/logtape";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { reason } from "../errors.ts";
import type { Role } from "../report.ts";
import { type Clock, type PeerContact, systemClock } from "./heartbeat.ts";
import { step } from "./machine.ts";
import type { Orders } from "./orders.ts";
import { type Action, duties, type Observation, type PeerView, type Record, type Settings } from "./states.ts";

/** What this node knows of itself. */
export interface LocalView {
  readonly databaseOk: boolean;
  readonly diskFull: boolean;
  /** How far the peer's stream is applied here. */
  readonly appliedLsn: Lsn;
  readonly currentLsn: Lsn;
  readonly preparedOpen: boolean;
  /** The peer's stream flows and next to nothing of it is pending. */
  readonly level: boolean;
  readonly peerExpected: boolean;
}

/** The own database, for whoever asks this node how it is. */
export interface Health {
  /** It answers. */
  readonly databaseOk: boolean;
  readonly diskFull: boolean;
  /** For how long it has not answered, or had no room. */
  readonly unwellMs: number;
}

/** What the supervisor can do. Each is idempotent; one that throws is tried again at the next turn. */
export interface Hands {
  observe(): Promise<LocalView>;
  guardIsOpen(): Promise<boolean>;
  /** This agent has closed the guard to the end, and not opened it since. */
  isShut(): boolean;
  /** `stillWanted` is asked at the last moment: it may have had to wait. */
  openGuard(record: Record, stillWanted: () => boolean): Promise<void>;
  closeGuard(record: Record): Promise<void>;
  fence(record: Record): Promise<Lsn>;
  startCapture(): Promise<void>;
  /** Keeps the slot as long as something in it is not confirmed. */
  stopCapture(): Promise<void>;
  startApply(): Promise<void>;
  stopApply(): Promise<void>;
  /** Durable when it resolves. */
  persist(record: Record): void | Promise<void>;
  announce(change: Extract<Action, { kind: "announce" }>): void;
  /** An immediate heartbeat. */
  tellPeer(): void;
  contact(): PeerContact;
  /** All that a state demands holds for the first time since it was entered, or since the agent started. */
  holds(record: Record): void;
}

export interface SupervisorOptions {
  readonly record: Record;
  readonly settings: Settings;
  readonly everyMs: number;
  readonly hands: Hands;
  readonly clock?: Clock;
}

const log = getLogger(["hapair", "role"]);

export class Supervisor {
  readonly #hands: Hands;
  readonly #settings: Settings;
  readonly #everyMs: number;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  readonly #complaints = new Map<string, string>();
  #record: Record;
  #enteredAt: number;
  #enteredHere = false;
  #fenceLsn: Lsn | null = null;
  #toldFence: Lsn | null = null;
  #databaseGoneSince: number | null = null;
  #unwellSince: number | null = null;
  #local: LocalView = {
    databaseOk: false,
    diskFull: false,
    appliedLsn: 0n,
    currentLsn: 0n,
    preparedOpen: false,
    level: false,
    peerExpected: true,
  };
  #observing: Promise<void> | null = null;
  #turn: Promise<void> = Promise.resolve();
  #wake = new AbortController();
  #asserting: Promise<void> | null = null;
  #assertAgain = false;
  #loop: Promise<void> | null = null;
  #failoverAsked = false;
  #heldState: string | null = null;

  constructor({ record, settings, everyMs, hands, clock = systemClock }: SupervisorOptions) {
    this.#record = record;
    this.#settings = settings;
    this.#everyMs = everyMs;
    this.#hands = hands;
    this.#clock = clock;
    this.#enteredAt = clock.monotonic();
  }

  /** The persisted record. */
  get record(): Record {
    return this.#record;
  }

  /** Where this node's WAL ended when it was fenced. */
  get fenceLsn(): Lsn | null {
    return this.#fenceLsn;
  }

  /** How the own database is by the last look at it. */
  get health(): Health {
    const { databaseOk, diskFull } = this.#local;
    return { databaseOk, diskFull, unwellMs: this.#since(this.#unwellSince) };
  }

  /** Something happened that a step may depend on: a heartbeat, progress of the applier, the database coming or going. */
  wake(): void {
    this.#wake.abort();
  }

  /** The loop, until stop(). */
  start(): void {
    this.#loop ??= this.#run();
  }

  /** Ends the loop. The state's demands stay as they are. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.wake();
    await this.#loop;
    await this.#turn;
    await this.settled();
  }

  /** One turn: as many steps as the observation allows, then the assertion is set off. The loop calls it. */
  turn(): Promise<void> {
    this.#turn = this.#turn.then(() => this.#takeSteps());
    return this.#turn;
  }

  /** Notes what an operator has ordered; durable when it resolves, and the peer is being told. */
  order(change: (orders: Orders, by: Role) => Orders): Promise<void> {
    const noted = this.#turn.then(async () => {
      const record = { ...this.#record, orders: change(this.#record.orders, this.#record.role) };
      await this.#hands.persist(record);
      this.#record = record;
      this.#hands.tellPeer();
      this.wake();
    });
    this.#turn = noted.catch(() => undefined);
    return noted;
  }

  /** Serves at once if the table allows it: whether it did. */
  async failover(): Promise<boolean> {
    const from = this.#record.state;
    const asked = this.#turn.then(async () => {
      this.#failoverAsked = true;
      try {
        await this.#takeSteps();
      } finally {
        this.#failoverAsked = false;
      }
    });
    this.#turn = asked.catch(() => undefined);
    await asked;
    return this.#record.state === "serving" && from !== "serving";
  }

  /** Until the assertion that has been set off is done. */
  async settled(): Promise<void> {
    while (this.#asserting) await this.#asserting;
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#wake = new AbortController();
      await this.turn();
      await pause(this.#everyMs, this.#wake.signal);
    }
  }

  async #takeSteps(): Promise<void> {
    await this.#observeLocal();
    // No state is passed through twice in one turn: more steps than states would be a fault of the table.
    for (let steps = 0; steps < 5; steps++) {
      const seen = this.#gather();
      const { record, actions } = step(this.#record, seen, this.#settings, this.#clock.wall());
      if (record !== this.#record && !await this.#attempt("persist", () => this.#hands.persist(record))) break;
      if (record.state !== this.#record.state) {
        this.#enteredAt = this.#clock.monotonic();
        this.#enteredHere = true;
      }
      this.#record = record;
      for (const action of actions) this.#act(action);
      this.#tellDrained(seen);
      if (actions.length === 0) break;
    }
    this.#setOffAssertion();
  }

  /** A look that takes too long is a database that does not answer. There is never more than one look at a time. */
  async #observeLocal(): Promise<void> {
    const began = this.#clock.monotonic();
    let local: LocalView | null = null;
    this.#observing ??= this.#attempt("observe", async () => {
      local = await this.#hands.observe();
    }).then(() => {
      this.#observing = null;
    });
    const deadline = new AbortController();
    await Promise.race([this.#observing, pause(this.#settings.afterMs / 2, deadline.signal)]);
    deadline.abort();
    this.#local = local ?? { ...this.#local, databaseOk: false, level: false };
    // It has been gone for as long as it was waited for.
    const { databaseOk, diskFull } = this.#local;
    this.#databaseGoneSince = databaseOk ? null : this.#databaseGoneSince ?? began;
    this.#unwellSince = databaseOk && !diskFull ? null : this.#unwellSince ?? began;
  }

  #since(at: number | null): number {
    return at === null ? 0 : this.#clock.monotonic() - at;
  }

  #gather(): Observation {
    const now = this.#clock.monotonic();
    const contact = this.#hands.contact();
    return {
      ...this.#local,
      peer: viewOf(contact, this.#enteredAt),
      peerSilentMs: contact.silentMs,
      missedHeartbeats: contact.missed,
      peerRefuses: contact.refusal !== null,
      peerSteadyMs: contact.steadyMs,
      inStateMs: now - this.#enteredAt,
      enteredHere: this.#enteredHere,
      databaseGoneMs: this.#since(this.#databaseGoneSince),
      fenceLsn: this.#fenceLsn,
      failoverAsked: this.#failoverAsked,
    };
  }

  #act(action: Action): void {
    switch (action.kind) {
      case "announce":
        return this.#hands.announce(action);
      case "forget_fence":
        this.#fenceLsn = null;
        return;
      case "tell_peer":
        return this.#hands.tellPeer();
    }
  }

  /** A peer that drains waits for nothing but the word that its fence is reached: it is told at once. */
  #tellDrained({ peer, appliedLsn }: Observation): void {
    const fence = peer?.state === "draining" ? peer.fenceLsn : null;
    if (fence === null || appliedLsn < fence || fence === this.#toldFence) return;
    this.#toldFence = fence;
    this.#hands.tellPeer();
  }

  #setOffAssertion(): void {
    if (!this.#local.databaseOk || this.#stop.signal.aborted) return;
    this.#assertAgain = true;
    this.#asserting ??= this.#assertWhileAsked().finally(() => {
      this.#asserting = null;
    });
  }

  /** Beside the steps, so that a database that hangs in an action does not keep the machine from deciding. */
  async #assertWhileAsked(): Promise<void> {
    while (this.#assertAgain && !this.#stop.signal.aborted) {
      this.#assertAgain = false;
      await this.#assertDuties(this.#record);
    }
  }

  async #assertDuties(record: Record): Promise<void> {
    const { guard, capture, apply } = duties(record);
    const hands = this.#hands;
    const changed = () => this.#record.state !== record.state || this.#stop.signal.aborted;

    let shut = true;
    if (guard === "fenced" && this.#fenceLsn === null) {
      const fenced = shut = await this.#attempt("fence", async () => {
        const lsn = await hands.fence(record);
        if (!changed()) this.#fenceLsn = lsn;
      });
      if (fenced && !changed()) {
        hands.tellPeer();
        this.wake();
      }
    } else if (guard === "closed" || guard === "fenced") {
      shut = await this.#attempt("close the guard", async () => {
        if (!hands.isShut() || await hands.guardIsOpen()) await hands.closeGuard(record);
      });
    }
    if (changed()) return;
    const captures = await this.#attempt(
      capture ? "start capture" : "stop capture",
      () => capture ? hands.startCapture() : hands.stopCapture(),
    );
    if (changed()) return;
    const applies = await this.#attempt(
      apply ? "start applying" : "stop applying",
      () => apply ? hands.startApply() : hands.stopApply(),
    );
    if (changed()) return;
    // Writes that nothing captures would never reach the peer.
    const opened = guard !== "open" || captures && await this.#attempt("open the guard", async () => {
          if (!await hands.guardIsOpen() && !changed()) await hands.openGuard(record, () => !changed());
        });
    if (shut && captures && applies && opened && !changed()) this.#tellHolds(record);
  }

  #tellHolds(record: Record): void {
    const entered = `${record.state} ${record.since}`;
    if (this.#heldState === entered) return;
    this.#heldState = entered;
    this.#hands.holds(record);
  }

  /** True if it worked. A failure is logged once for each distinct reason, and so is its end. */
  async #attempt(what: string, act: () => void | Promise<void>): Promise<boolean> {
    try {
      await act();
    } catch (error) {
      const why = reason(error);
      if (this.#complaints.get(what) !== why) log.error("Cannot {what}: {why}", { what, why });
      this.#complaints.set(what, why);
      return false;
    }
    if (this.#complaints.delete(what)) log.info("{what} works again", { what });
    return true;
  }
}

function viewOf(contact: PeerContact, enteredAt: number): PeerView | null {
  const { report } = contact;
  if (!report) return null;
  return {
    state: report.state,
    epoch: report.epoch,
    databaseOk: report.database_ok,
    appliedLsn: parseLsn(report.applied_lsn),
    fenceLsn: report.fence_lsn === null ? null : parseLsn(report.fence_lsn),
    pendingBytes: report.incoming_pending_bytes,
    holdsMerge: report.merge_held,
    orders: report.orders,
    unwellMs: contact.unwellMs,
    knowsOurState: contact.askedAt !== null && contact.askedAt >= enteredAt,
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
