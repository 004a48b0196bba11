// When a certificate's end is told of, and how loudly. Pure: dates in, an alert out.

export interface Expiry {
  readonly severity: "warning" | "error";
  /** "expires in 6 days, on 2030-01-07T00:00:00.000Z" */
  readonly state: string;
}

const dayMs = 86_400_000;
/** From so many days before its end on: first a warning, then an error, then an error by the hour. */
export const expirySteps = { warning: 30, error: 7, last: 1 } as const;

/** What is to be said of a certificate that is good until `notAfter`; null: nothing yet. Both in milliseconds. */
export function expiryOf(notAfter: number, now: number): Expiry | null {
  const left = notAfter - now;
  const on = new Date(notAfter).toISOString();
  if (left <= 0) return { severity: "error", state: `has expired, on ${on}` };
  const days = left / dayMs;
  if (days > expirySteps.warning) return null;
  if (days <= expirySteps.last) {
    const hours = Math.ceil(left / 3_600_000);
    return { severity: "error", state: `expires within ${hours === 1 ? "the hour" : `${hours} hours`}, on ${on}` };
  }
  const severity = days <= expirySteps.error ? "error" : "warning";
  return { severity, state: `expires in ${Math.ceil(days)} days, on ${on}` };
}
