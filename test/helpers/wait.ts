// Waiting for a condition instead of for a time. Never returns without the condition being met.
import { setTimeout as pause } from "node:timers/promises";

export interface Wait {
  /** What is waited for, in words that complete "Waited for ...". */
  what: string;
  deadlineMs: number;
  everyMs?: number;
  /** A reason to stop waiting at once, e.g. that what is waited for has died. */
  inVain?: () => string | undefined;
}

type Met<T> = Exclude<T, undefined | null | false>;

/** Asks until the answer is neither false, null nor undefined, and returns it. An error counts as a no. */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { what, deadlineMs, everyMs = 50, inVain = () => undefined }: Wait,
): Promise<Met<T>> {
  const start = performance.now();
  let last = "no answer yet";
  while (true) {
    try {
      const answer = await condition();
      if (answer !== undefined && answer !== null && answer !== false) return answer as Met<T>;
      last = `the answer was ${answer}`;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    const end = inVain();
    if (end !== undefined) throw new Error(`Waited in vain for ${what}: ${end}: ${last}`);
    if (performance.now() - start > deadlineMs) {
      throw new Error(`Waited ${deadlineMs} ms in vain for ${what}: ${last}`);
    }
    await pause(everyMs);
  }
}

export class TimedOut extends Error {
  readonly code = "TIMED_OUT";
}

/**
 * The answer of `work`, or TimedOut after `ms`: `late`, if said. The work itself is not ended.
 * A connection to a server that was killed may never answer.
 */
export async function within<T>(
  ms: number,
  work: T | Promise<T>,
  late = `Cannot go on: no answer within ${ms} ms`,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tooLate = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new TimedOut(late)), ms);
  });
  try {
    return await Promise.race([work, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
