// A test's scope: what it opens is closed with it, in reverse order, whether it passes or not.
// A process that outlives its scope fails the test.
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { processesOf, sendSignal } from "./processes.ts";
import { waitFor, within } from "./wait.ts";

type Closing = () => void | Promise<void>;

/** A closing that never ends would hide what failed before it. */
const closingMs = 20_000;

/** Folders of scopes that are not closed yet: if the test run is ended in the middle, their processes end with it. */
const openFolders = new Set<string>();

function endAll(): void {
  for (const folder of openFolders) for (const { pid } of processesOf(folder)) sendSignal(pid, "SIGKILL");
}

process.on("exit", endAll);
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) process.on(signal, () => process.exit(code));

export class Scope {
  readonly #closings: { what: string; close: Closing }[] = [];
  readonly #accounts: (() => string | Promise<string>)[] = [];
  #dir: string | undefined;

  /** This scope's own folder. Others may enter it: PostgreSQL runs as another user where the tests run as root. */
  get dir(): string {
    if (!this.#dir) {
      this.#dir = mkdtempSync(join(tmpdir(), "ha-"));
      chmodSync(this.#dir, 0o755);
      openFolders.add(this.#dir);
    }
    return this.#dir;
  }

  /** Closes `what` when the scope ends. */
  defer(what: string, close: Closing): void {
    this.#closings.push({ what, close });
  }

  /** Text that is printed if the test fails: logs, mostly. */
  account(tell: () => string | Promise<string>): void {
    this.#accounts.push(tell);
  }

  async tellAccounts(): Promise<void> {
    for (const tell of this.#accounts) {
      try {
        console.error(await tell());
      } catch (error) {
        console.error(`(no account: ${error})`);
      }
    }
  }

  /** Closes all. Throws what went wrong on the way, and what was left running. */
  async close(): Promise<void> {
    const problems: string[] = [];
    for (const { what, close } of this.#closings.reverse()) {
      try {
        await within(closingMs, close(), `not done after ${closingMs} ms`);
      } catch (error) {
        problems.push(`closing ${what}: ${error instanceof Error ? error.message : error}`);
      }
    }
    this.#closings.length = 0;
    if (this.#dir) problems.push(...await leftRunning(this.#dir));
    if (this.#dir) {
      rmSync(this.#dir, { recursive: true, force: true, maxRetries: 3 });
      openFolders.delete(this.#dir);
    }
    if (problems.length) throw new Error(`Cannot close the test's scope cleanly: ${problems.join("; ")}`);
  }
}

async function leftRunning(dir: string): Promise<string[]> {
  try {
    await waitFor(() => processesOf(dir).length === 0, {
      what: `the end of the processes of ${dir}`,
      deadlineMs: 3000,
    });
    return [];
  } catch (_error) {
    const left = processesOf(dir);
    for (const { pid } of left) sendSignal(pid, "SIGKILL");
    return left.map((p) => `left running: ${p.pid} ${p.command.slice(0, 200)}`);
  }
}

export interface ScopedOptions {
  timeoutMs?: number;
  skip?: boolean | string;
}

/** A `node:test` test with a scope. After `timeoutMs` it fails by itself, and still closes what it opened. */
export function scopedTest(
  name: string,
  body: (scope: Scope) => Promise<void>,
  { timeoutMs = 120_000, skip = false }: ScopedOptions = {},
): void {
  test(name, { skip, timeout: timeoutMs + 60_000 }, async () => {
    const scope = new Scope();
    let failure: unknown;
    try {
      await within(timeoutMs, body(scope), `Cannot finish "${name}": not done after ${timeoutMs} ms`);
    } catch (error) {
      failure = error ?? new Error("failed without an error");
      console.error(failure);
      await scope.tellAccounts();
    }
    try {
      await scope.close();
    } catch (error) {
      if (failure === undefined) throw error;
      console.error(error);
    }
    if (failure !== undefined) throw failure;
  });
}
