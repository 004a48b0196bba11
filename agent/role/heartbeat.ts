// The loop that asks the peer how it is, and what is known of the peer from that. Decides nothing about roles.
// Durations are of the monotonic clock: a step of the wall clock must never look like an outage.
import { setTimeout as delay } from "node:timers/promises";
import { reason, RefusedError } from "../errors.ts";
import type { NodeReport } from "../report.ts";
import { outageMisses } from "./steadiness.ts";

export interface Clock {
  /** Milliseconds that only go forward. */
  monotonic(): number;
  /** Milliseconds since 1970. */
  wall(): number;
}

export const systemClock: Clock = { monotonic: () => performance.now(), wall: () => Date.now() };

/** What is known of the peer at one moment. */
export interface PeerContact {
  readonly report: NodeReport | null;
  /** Wall clock of the last contact; null if there was none since the agent started. */
  readonly lastSeen: number | null;
  readonly silentMs: number;
  readonly missed: number;
  /** The peer answers, but says that it does not belong to this node: why. */
  readonly refusal: string | null;
  /** Why the last heartbeat was not answered; null if it was. */
  readonly failure: string | null;
  readonly unwellMs: number;
  /** For how long contact has held without an outage and the peer has been well. */
  readonly steadyMs: number;
  /** Monotonic: when the last answered heartbeat was sent. */
  readonly askedAt: number | null;
  /** Peer's clock minus this node's. */
  readonly clockSkewMs: number | null;
}

/** How many measurements of the clock the best one is chosen from. */
const skewSamples = 8;
/** A heartbeat is given up after so many times the time after which it counts as missed. */
const patience = 4;

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  readonly #startedAt: number;
  #wakeUp = new AbortController();
  #loop: Promise<void> | null = null;
  #report: NodeReport | null = null;
  #lastContact: number | null = null;
  #lastSeen: number | null = null;
  #missed = 0;
  #refusal: string | null = null;
  #failure: string | null = null;
  #unwellSince: number | null = null;
  #steadySince: number | null = null;
  #askedAt: number | null = null;
  #skews: { skewMs: number; roundTripMs: number }[] = [];
  readonly #calls = new Set<Promise<void>>();

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#startedAt = this.#clock.monotonic();
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#wakeUp.abort();
    await this.#loop;
    await Promise.all(this.#calls);
  }

  /** The next heartbeat goes out now; if one is on its way, right after it. */
  nudge(): void {
    this.#wakeUp.abort();
  }

  /** The peer's own heartbeat arrived: contact as good as an answer. */
  heard(report: NodeReport): void {
    this.#note(report);
    this.#options.onResult();
  }

  contact(): PeerContact {
    const now = this.#clock.monotonic();
    return {
      report: this.#report,
      lastSeen: this.#lastSeen,
      silentMs: now - (this.#lastContact ?? this.#startedAt),
      missed: this.#missed,
      refusal: this.#refusal,
      failure: this.#failure,
      // From report to report, so that a pause of this process does not count.
      unwellMs: this.#unwellSince === null ? 0 : (this.#lastContact ?? now) - this.#unwellSince,
      steadyMs: this.#steadySince === null ? 0 : now - this.#steadySince,
      askedAt: this.#askedAt,
      clockSkewMs: this.#bestSkew(),
    };
  }

  /**
   * One heartbeat: sent, and its outcome noted. It counts as missed after `timeoutMs`, but is given up much later: the
   * first call on a new connection takes three ways where a later one takes two, and over a slow link none would ever
   * end if each was given up so early. Public for tests; the loop calls it.
   */
  async beat(): Promise<void> {
    const waiting = new AbortController();
    let isLate = false;
    const call = this.#call(() => isLate).finally(() => {
      this.#calls.delete(call);
      waiting.abort();
    });
    this.#calls.add(call);
    await interruptibleSleep(this.#options.timeoutMs, waiting.signal);
    if (waiting.signal.aborted || this.#stop.signal.aborted) return await call;
    isLate = true;
    this.#miss(new Error(`no answer within ${this.#options.timeoutMs} ms`));
  }

  /** Never rejects. */
  async #call(isLate: () => boolean): Promise<void> {
    const askedAt = this.#clock.monotonic();
    const askedWall = this.#clock.wall();
    try {
      const report = await this.#options.send(patience * this.#options.timeoutMs, this.#stop.signal);
      const roundTripMs = this.#clock.monotonic() - askedAt;
      this.#skews.push({ skewMs: report.clock_ms - (askedWall + roundTripMs / 2), roundTripMs });
      if (this.#skews.length > skewSamples) this.#skews.shift();
      this.#askedAt = Math.max(this.#askedAt ?? askedAt, askedAt);
      this.#note(report);
      this.#options.onResult();
    } catch (error) {
      if (!this.#stop.signal.aborted && !isLate()) this.#miss(error);
    }
  }

  #miss(error: unknown): void {
    this.#missed++;
    if (this.#missed >= outageMisses) this.#steadySince = null;
    this.#failure = reason(error);
    this.#refusal = error instanceof RefusedError ? reason(error) : null;
    this.#options.onResult();
  }

  #note(report: NodeReport): void {
    const now = this.#clock.monotonic();
    this.#lastContact = now;
    this.#lastSeen = this.#clock.wall();
    this.#missed = 0;
    this.#refusal = this.#failure = null;
    if (this.#isOvertaken(report)) return;
    this.#report = report;
    this.#unwellSince = isUnwell(report) ? this.#unwellSince ?? now - report.database_gone_ms : null;
    this.#steadySince = isUnwell(report) ? null : this.#steadySince ?? now;
  }

  /** An answer may arrive after a heartbeat that the peer sent later. By more than a call's time its clock was set back. */
  #isOvertaken(report: NodeReport): boolean {
    const behindMs = (this.#report?.clock_ms ?? -Infinity) - report.clock_ms;
    return behindMs > 0 && behindMs < patience * this.#options.timeoutMs;
  }

  #bestSkew(): number | null {
    if (this.#skews.length === 0) return null;
    return this.#skews.reduce((best, one) => one.roundTripMs < best.roundTripMs ? one : best).skewMs;
  }

  async #run(): Promise<void> {
    const sleep = this.#options.sleep ?? interruptibleSleep;
    while (!this.#stop.signal.aborted) {
      this.#wakeUp = new AbortController();
      const began = this.#clock.monotonic();
      await this.beat();
      const left = this.#options.everyMs - (this.#clock.monotonic() - began);
      if (left > 0) await sleep(left, this.#wakeUp.signal);
    }
  }
}

export interface HeartbeatOptions {
  /** Brings this node's report, takes the peer's. RefusedError: the peer is not of this pair. */
  readonly send: (timeoutMs: number, signal: AbortSignal) => Promise<NodeReport>;
  readonly everyMs: number;
  /** When it counts as missed. Shorter than after_ms: a call that hangs must not hide an outage. */
  readonly timeoutMs: number;
  /** Something new may be known. */
  readonly onResult: () => void;
  readonly clock?: Clock;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** How long a heartbeat is waited for, so that two can be missed within after_ms. */
export function heartbeatTimeout(settings: { heartbeatMs: number; afterMs: number }): number {
  return Math.max(50, Math.floor((settings.afterMs - settings.heartbeatMs) / 2));
}

function isUnwell(report: NodeReport): boolean {
  return !report.database_ok || report.state === "failed" || report.state === "seeding";
}

async function interruptibleSleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
