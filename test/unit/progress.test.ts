// What a long copy shows of itself.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Pace, progressText, timeText } from "../../cli/progress.ts";

const texts: [bytes: number, total: number, rate: number | null, text: string][] = [
  [0, 0, null, "0 B"],
  [1_500_000, 0, 2_000_000, "1.5 MB, 2.0 MB/s"],
  [120_500_000, 400_000_000, 55_900_000, "120.5 MB of 400.0 MB, 55.9 MB/s, 5 s left"],
  [1_000_000, 400_000_000, null, "1.0 MB of 400.0 MB"],
  [1_000_000, 400_000_000, 0, "1.0 MB of 400.0 MB, 0 B/s"],
  // An estimate that proves too small.
  [410_000_000, 400_000_000, 50_000_000, "410.0 MB of 410.0 MB, 50.0 MB/s"],
  [2_000_000_000_000, 3_000_000_000_000, 100_000_000, "2.0 TB of 3.0 TB, 100.0 MB/s, 2 h 47 min left"],
];
for (const [bytes, total, rate, text] of texts) {
  test(`progress: ${text}`, () => assert.equal(progressText(bytes, total, rate), text));
}

test("times are no finer than they can be known", () => {
  assert.deepEqual([0, 1.4, 89, 91, 600, 5400, 7200, 90_000].map(timeText), [
    "1 s",
    "1 s",
    "89 s",
    "2 min",
    "10 min",
    "1 h 30 min",
    "2 h",
    "25 h",
  ]);
});

test("the pace is that of the last seconds, and starts anew with the count", () => {
  const pace = new Pace(5000);
  assert.equal(pace.see(0, 0), null);
  assert.equal(pace.see(100, 10), null);
  assert.equal(pace.see(1000, 1000), 1000);
  for (let at = 2000; at <= 20_000; at += 1000) pace.see(at, 1000);
  assert.equal(pace.see(21_000, 1000), 0, "a stall shows");
  assert.equal(pace.see(22_000, 6000), 1000);
  assert.equal(pace.see(23_000, 10), null);
  assert.equal(pace.see(24_000, 510), 500);
});
