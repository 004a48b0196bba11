// One client of an application that writes one tagged row after the other, by whatever means it is handed, and keeps what
// was acknowledged to it. Each tag is sent once; a lost connection or a refusal is counted, and it goes on.
import { setTimeout as pause } from "node:timers/promises";
import { errorCode, isUnreachable, type Sql } from "../../agent/postgres/connect.ts";
import { ReadOnlyServer } from "./follower.ts";
import type { Scope } from "./scope.ts";
import { TimedOut, waitFor } from "./wait.ts";

/** The table that writers write into. */
export const noteTable = "CREATE TABLE note (tag text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";

export class Writer {
  readonly acknowledged: string[] = [];
  /** Lost or refused connections, and servers that were not the wanted one. */
  reconnections = 0;
  /** SQLSTATE 25006: closed between the client's look and its write. */
  refusals = 0;
  /** Anything else: a client that follows the pair sees none. */
  readonly errors: string[] = [];
  longestGapMs = 0;
  #going = true;
  readonly #done: Promise<void>;

  /** Writes until the scope ends, or until it is stopped. */
  constructor(scope: Scope, readonly name: string, write: (tag: string) => Promise<void>) {
    this.#done = this.#run(write);
    scope.defer(`writer ${name}`, () => this.stop());
  }

  async #run(write: (tag: string) => Promise<void>): Promise<void> {
    let last = performance.now();
    for (let turn = 1; this.#going; turn++) {
      const tag = `${this.name} ${turn}`;
      try {
        await write(tag);
        this.acknowledged.push(tag);
        this.longestGapMs = Math.max(this.longestGapMs, performance.now() - last);
        last = performance.now();
        await pause(10);
      } catch (error) {
        if (errorCode(error) === "25006") this.refusals++;
        else if (isUnreachable(error) || error instanceof TimedOut || error instanceof ReadOnlyServer) {
          this.reconnections++;
        } else this.errors.push(`${errorCode(error)}: ${error instanceof Error ? error.message : error}`);
        await pause(50);
      }
    }
  }

  /** Until so many more have been acknowledged. */
  async more(count: number, what: string): Promise<void> {
    const before = this.acknowledged.length;
    await waitFor(() => this.acknowledged.length >= before + count, {
      what: `${count} rows of ${this.name} ${what}; ${this}`,
      deadlineMs: 30_000,
    });
  }

  async stop(): Promise<void> {
    this.#going = false;
    await this.#done;
  }

  toString(): string {
    return `${this.name}: ${this.acknowledged.length} acknowledged, ${this.reconnections} reconnections, ` +
      `${this.refusals} refusals, longest gap ${this.longestGapMs.toFixed(0)} ms`;
  }
}

/** Which acknowledged rows are not there. */
export async function missingNotes(sql: Sql, writers: readonly Writer[]): Promise<string[]> {
  const rows = await sql<{ tag: string }[]>`SELECT tag FROM note`;
  const found = new Set(rows.map(({ tag }) => tag));
  return writers.flatMap(({ acknowledged }) => acknowledged.filter((tag) => !found.has(tag)));
}
