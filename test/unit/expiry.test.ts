// When the end of a certificate is told of: 30, 7 and 1 days before, louder each time, and never quieter as time goes on.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { expiryOf } from "../../agent/trust/expiry.ts";

const now = Date.UTC(2030, 0, 1);
const day = 86_400_000;

for (
  const [left, severity, state] of [
    [31 * day, null, null],
    [30 * day + 1, null, null],
    [30 * day, "warning", "expires in 30 days, on 2030-01-31T00:00:00.000Z"],
    [7 * day + 1, "warning", "expires in 8 days, on 2030-01-08T00:00:00.001Z"],
    [7 * day, "error", "expires in 7 days, on 2030-01-08T00:00:00.000Z"],
    [day + 1, "error", "expires in 2 days, on 2030-01-02T00:00:00.001Z"],
    [day, "error", "expires within 24 hours, on 2030-01-02T00:00:00.000Z"],
    [1, "error", "expires within the hour, on 2030-01-01T00:00:00.001Z"],
    [0, "error", "has expired, on 2030-01-01T00:00:00.000Z"],
    [-400 * day, "error", "has expired, on 2028-11-27T00:00:00.000Z"],
  ] as const
) {
  test(`${left / day} days before its end: ${severity ?? "nothing"}`, () => {
    assert.deepEqual(expiryOf(now + left, now), severity === null ? null : { severity, state });
  });
}

test("it never gets quieter", () => {
  const loudness = (at: number, end: number) =>
    ({ none: 0, warning: 1, error: 2 })[expiryOf(end, at)?.severity ?? "none"];
  const time = fc.integer({ min: 0, max: 400 * day });
  fc.assert(fc.property(time, time, time, (end, one, other) => {
    const [earlier, later] = [Math.min(one, other), Math.max(one, other)];
    assert.ok(loudness(now + earlier, now + end) <= loudness(now + later, now + end));
  }));
});
