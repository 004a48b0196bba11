// A bound for what a query may take: porsager may leave one unanswered when its backend is ended from outside, so nothing
// that has to go on may wait for a query alone.
import { UnreachableError } from "../errors.ts";

/** The answer of `work`, or UnreachableError after `timeoutMs`. The work itself is not undone. */
export async function withDeadline<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() =>
      reject(
        new UnreachableError(
          `Cannot ${what}: PostgreSQL has not answered for ${timeoutMs} ms`,
          "see its log and its load; it is tried again by itself",
        ),
      ), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
