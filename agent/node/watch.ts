// Work that is done again and again while a node runs: never twice at once, and a failure is told, not thrown.
import { isUnreachable } from "../postgres/connect.ts";

export interface WatchOptions {
  readonly everyMs: number;
  readonly work: () => Promise<void>;
  /** Told after each turn how it went; not of a database that is away, which is told of elsewhere. */
  readonly ended: (failure: unknown | null) => void;
}

export class Watch {
  #timer: ReturnType<typeof setTimeout> | undefined;
  #turn: Promise<void> | null = null;
  #again = false;
  #stopped = true;

  constructor(private readonly options: WatchOptions) {}

  /** The first turn is taken at once. */
  start(): void {
    this.#stopped = false;
    this.wake();
  }

  /** A turn now, or right after the one that is being taken. */
  wake(): void {
    if (this.#stopped) return;
    this.#again = this.#turn !== null;
    // Not within this call: work itself may ask for a turn.
    this.#turn ??= Promise.resolve().then(() => this.#take());
  }

  /** Resolves when the last turn is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#turn;
  }

  async #take(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      await this.options.work();
      this.options.ended(null);
    } catch (error) {
      if (!this.#stopped && !isUnreachable(error)) this.options.ended(error);
    }
    this.#turn = null;
    if (this.#stopped) return;
    if (this.#again) return this.wake();
    this.#timer = setTimeout(() => this.wake(), this.options.everyMs);
  }
}
