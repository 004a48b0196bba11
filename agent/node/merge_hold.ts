// Whether an operator has asked this primary to apply nothing of the secondary's for now, so that people can look at it
// first. Kept in a file, over restarts; whoever holds the merge ends it, nobody else.
import { readFileSync, statSync } from "node:fs";
import { z } from "zod";
import { removeDurably, writeDurably } from "../durable_file.ts";
import type { State } from "../report.ts";

const stored = z.object({ since: z.iso.datetime() });

export class MergeHold {
  private held: string | null;

  constructor(private readonly path: string) {
    this.held = read(path);
  }

  /** ISO; null: the merge goes on by itself. */
  get since(): string | null {
    return this.held;
  }

  /** Durable when it returns. Holding what is held changes nothing. */
  hold(now = new Date()): void {
    if (this.held !== null) return;
    const since = now.toISOString();
    writeDurably(this.path, JSON.stringify({ since }) + "\n");
    this.held = since;
  }

  /** Durable when it returns. */
  release(): void {
    removeDurably(this.path);
    this.held = null;
  }
}

/** A file that cannot be understood is a hold all the same: merging cannot be taken back, holding can. */
function read(path: string): string | null {
  try {
    const { success, data } = stored.safeParse(parsed(readFileSync(path, "utf8")));
    return success ? data.since : statSync(path).mtime.toISOString();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** What `agent status` says while the merge is held; `here` is the primary that holds it. */
export function heldMessage(here: { name: string; state: State }, since: string): string {
  const effect = here.state === "catching_up" ? `, so ${here.name} does not serve` : "";
  return `the merge is held since ${since}: nothing of the secondary's is applied here${effect}; ` +
    `WAL is kept on both servers meanwhile. Try: agent merge --dry-run, then agent merge --release`;
}
