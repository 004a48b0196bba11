// Waiting for a condition with a deadline. Never goes on without the condition being met.
import { setTimeout as pause } from "node:timers/promises";

/** Asks until the answer is truthy, and returns it. An error counts as a no; the last one is told in the end. */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T>,
  { deadlineMs = 30_000, everyMs = 20 } = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + deadlineMs;
  let last = "";
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error instanceof Error ? `: ${error.message}` : "";
    }
    if (performance.now() > end) throw new Error(`waited ${deadlineMs / 1000} s in vain for ${what}${last}`);
    await pause(everyMs);
  }
}

/** No use to wait on. */
export class Hopeless extends Error {}
