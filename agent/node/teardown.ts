// Takes a node's parts down in the reverse of the order in which they came up. A part that does not end, or fails to, is
// told of and left behind: what comes after it, PostgreSQL above all, has to be stopped all the same.
import { getLogger } from "@logtape/logtape";
import { setTimeout as delay } from "node:timers/promises";
import { reason } from "../errors.ts";

const log = getLogger(["hapair", "node"]);
/** No part needs longer, but for PostgreSQL. */
const patienceMs = 15_000;

interface Part {
  readonly what: string;
  readonly end: () => Promise<unknown> | unknown;
  readonly atMostMs: number | null;
}

export class Teardown {
  readonly #parts: Part[] = [];

  /** `atMostMs` null: it is waited for to its end. */
  add(what: string, end: Part["end"], atMostMs: number | null = patienceMs): void {
    this.#parts.push({ what, end, atMostMs });
  }

  /** Never rejects. A second call does nothing more. */
  async run(): Promise<void> {
    for (const part of this.#parts.splice(0).reverse()) await endPart(part);
  }
}

async function endPart({ what, end, atMostMs }: Part): Promise<void> {
  const over = new AbortController();
  const ended = Promise.resolve().then(end).then(() => true);
  // Left behind, it may still fail later on.
  ended.catch(() => undefined);
  try {
    const late = atMostMs === null
      ? ended
      : Promise.race([ended, delay(atMostMs, false, { signal: over.signal }).catch(() => false)]);
    if (!await late) log.error("{what} has not ended within {atMostMs} ms: it is left behind", { what, atMostMs });
  } catch (error) {
    log.error("Cannot end {what}: {why}", { what, why: reason(error) });
  } finally {
    over.abort();
  }
}
