// Keeps a cluster that the agent manages running: starts it, notices when it has died, starts it again.
// Never stops a server by itself; stopping is the agent's clean shutdown alone.
import { setTimeout as delay } from "node:timers/promises";
import { reason } from "../errors.ts";
import { type Cluster, startCluster, stopCluster, waitExit } from "./server.ts";

const retryMs = { first: 200, most: 5000 };

export class Keeper {
  private readonly stopping = new AbortController();
  private watching: Promise<void> = Promise.resolve();

  /** `onChange` is told of every start and end, for the log. */
  constructor(private readonly cluster: Cluster, private readonly onChange: (what: string) => void) {}

  /** Starts or adopts the server; throws if that fails the first time. From then on it is kept running. */
  async start(): Promise<void> {
    const started = await startCluster(this.cluster);
    this.onChange(started.adopted ? "PostgreSQL runs already: adopted" : "PostgreSQL started");
    this.watching = this.watch(started.pid);
  }

  /** Ends the watch and stops the server. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await this.watching;
    await stopCluster(this.cluster);
    this.onChange("PostgreSQL stopped");
  }

  private async watch(pid: number): Promise<void> {
    const { signal } = this.stopping;
    let failures = 0;
    while (!signal.aborted) {
      try {
        await waitExit(pid, { signal });
        this.onChange("PostgreSQL has ended unexpectedly: it is started again");
        pid = (await startCluster(this.cluster)).pid;
        this.onChange("PostgreSQL started");
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        this.onChange(reason(error));
        const pauseMs = Math.min(retryMs.most, retryMs.first * 2 ** Math.min(failures++, 10));
        await delay(pauseMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }
}
