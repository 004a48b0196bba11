// The change stream of a node that writes nothing of its own (a standby without a slot): only `seen` frames, as its
// applier reports progress. Never runs beside a relay.
import type { Lsn } from "../change/lsn.ts";
import { encodePosition, encodeSeen } from "../change/frames.ts";
import type { Sink } from "./relay.ts";

const keepaliveMs = 1000;

export class Announcer {
  private sinks = new Set<Sink>();
  private applied: Lsn = 0n;

  /** The applier has committed the peer's stream up to `applied`. */
  announce(applied: Lsn, idle: boolean): void {
    this.applied = applied;
    const frame = encodeSeen({ position: 0n, seen: applied, idle });
    for (const sink of this.sinks) sink.write(frame);
  }

  /** Streams until `signal` aborts. */
  async serve(sink: Sink, signal: AbortSignal): Promise<void> {
    this.sinks.add(sink);
    sink.write(encodeSeen({ position: 0n, seen: this.applied, idle: true }));
    // Shows the peer that the link is alive while nothing happens.
    const timer = setInterval(() => sink.write(encodePosition(0n)), keepaliveMs);
    if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    clearInterval(timer);
    this.sinks.delete(sink);
    sink.end();
  }
}
