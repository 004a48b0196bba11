// Keeps a server running that somebody else runs, by its start_command: at the agent's start, and when it has died.
// Never stops it: whoever runs it does that.
import { setTimeout as delay } from "node:timers/promises";
import { reason } from "../errors.ts";
import { askServer, type CommandedServer, ensureStarted } from "./commands.ts";

const lookMs = 1000;
const retryMs = { first: 500, most: 10_000 };

export class CommandKeeper {
  private readonly stopping = new AbortController();
  private watching: Promise<void> = Promise.resolve();

  /** `onChange` is told of every start and end, for the log. */
  constructor(private readonly server: CommandedServer, private readonly onChange: (what: string) => void) {}

  /** Starts it if it is down; throws if that fails the first time. From then on it is kept running. */
  async start(): Promise<void> {
    if (await ensureStarted(this.server)) this.onChange("PostgreSQL started by start_command");
    this.watching = this.watch();
  }

  /** Ends the watch. The server goes on. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.watching;
  }

  private async watch(): Promise<void> {
    const { signal } = this.stopping;
    let failures = 0;
    while (!signal.aborted) {
      try {
        await delay(failures === 0 ? lookMs : Math.min(retryMs.most, retryMs.first * 2 ** failures), undefined, {
          signal,
        });
        // Twice in a row: at a restart by hand its port is free for a moment.
        if (await askServer(this.server.target) !== "down") {
          failures = 0;
          continue;
        }
        await delay(lookMs, undefined, { signal });
        if (await askServer(this.server.target) !== "down") continue;
        this.onChange("PostgreSQL is down: start_command is called");
        await ensureStarted(this.server, signal);
        this.onChange("PostgreSQL started by start_command");
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        this.onChange(reason(error));
      }
    }
  }
}
