// The heartbeat with a clock and a peer handed in: contact, misses, refusals, skew, nudges.
import assert from "node:assert/strict";
import { test } from "node:test";
import { RefusedError, UnreachableError } from "../../agent/errors.ts";
import type { NodeReport } from "../../agent/report.ts";
import { Heartbeat, heartbeatTimeout } from "../../agent/role/heartbeat.ts";
import { reportOf } from "../helpers/report.ts";

class FakeClock {
  now = 1000;
  monotonic = () => this.now;
  wall = () => this.now + 1_000_000;
}

function heartbeatWith(answer: (clock: FakeClock) => NodeReport | Promise<NodeReport>) {
  const clock = new FakeClock();
  let results = 0;
  const heartbeat = new Heartbeat({
    send: () => Promise.resolve().then(() => answer(clock)),
    everyMs: 500,
    timeoutMs: 1000,
    onResult: () => results++,
    clock,
  });
  return { heartbeat, clock, results: () => results };
}

const away = () => {
  throw new UnreachableError("Cannot reach it: away", "wait");
};

test("silence counts from the start, misses count up, an answer ends both", async () => {
  let answer: () => NodeReport = away;
  const { heartbeat, clock, results } = heartbeatWith(() => answer());
  await heartbeat.beat();
  clock.now += 3000;
  await heartbeat.beat();
  const lost = heartbeat.contact();
  assert.deepEqual([lost.silentMs, lost.missed, lost.report, lost.lastSeen], [3000, 2, null, null]);
  assert.match(lost.failure!, /away/);
  answer = () => reportOf();
  await heartbeat.beat();
  const back = heartbeat.contact();
  assert.deepEqual([back.silentMs, back.missed, back.failure, back.askedAt], [0, 0, null, 4000]);
  assert.equal(back.report?.name, "b.example");
  assert.equal(results(), 3);
});

test("a refusal is no contact, but is told apart from silence", async () => {
  const { heartbeat } = heartbeatWith(() => {
    throw new RefusedError("Cannot pair: another pair", "check");
  });
  await heartbeat.beat();
  assert.match(heartbeat.contact().refusal!, /another pair/);
  heartbeat.heard(reportOf());
  assert.equal(heartbeat.contact().refusal, null);
});

test("the clock skew is that of the quickest of the last answers, less half the way", async () => {
  let roundTripMs = 40;
  const { heartbeat, clock } = heartbeatWith((clock) => {
    const clock_ms = clock.wall() + roundTripMs * 0.8 + 500;
    clock.now += roundTripMs;
    return reportOf({ clock_ms });
  });
  await heartbeat.beat();
  assert.equal(heartbeat.contact().clockSkewMs, 512);
  roundTripMs = 2;
  clock.now += 2000;
  await heartbeat.beat();
  assert.ok(Math.abs(heartbeat.contact().clockSkewMs! - 500.6) < 0.01);
  roundTripMs = 40;
  await heartbeat.beat();
  assert.ok(Math.abs(heartbeat.contact().clockSkewMs! - 500.6) < 0.01);
});

test("how long the peer is unwell counts from report to report, not through a pause", async () => {
  let report = reportOf({ database_ok: false });
  const { heartbeat, clock } = heartbeatWith(() => report);
  await heartbeat.beat();
  clock.now += 60_000;
  assert.equal(heartbeat.contact().unwellMs, 0);
  await heartbeat.beat();
  assert.equal(heartbeat.contact().unwellMs, 60_000);
  report = reportOf();
  await heartbeat.beat();
  assert.equal(heartbeat.contact().unwellMs, 0);
});

test("an answer that a later report overtook is contact, but no news", async () => {
  const { heartbeat } = heartbeatWith(() => reportOf({ state: "standby", clock_ms: 900 }));
  heartbeat.heard(reportOf({ state: "serving", clock_ms: 1000 }));
  await heartbeat.beat();
  assert.equal(heartbeat.contact().report?.state, "serving");
  heartbeat.heard(reportOf({ state: "draining", clock_ms: -5_000_000 }));
  assert.equal(heartbeat.contact().report?.state, "draining", "the peer's clock was set back");
});

test("a nudge sends the next one at once, and right after one that is on its way", async () => {
  let sent = 0;
  const slept: number[] = [];
  let sleeping = Promise.withResolvers<void>();
  const heartbeat = new Heartbeat({
    send: () => {
      if (++sent === 2) heartbeat.nudge();
      return Promise.resolve(reportOf());
    },
    everyMs: 3_600_000,
    timeoutMs: 1000,
    onResult: () => {},
    sleep: (ms, signal) => {
      slept.push(ms);
      if (signal.aborted) return Promise.resolve();
      return new Promise((resolve) => {
        signal.addEventListener("abort", () => resolve(), { once: true });
        sleeping.resolve();
      });
    },
  });
  heartbeat.start();
  await sleeping.promise;
  assert.equal(sent, 1);
  sleeping = Promise.withResolvers<void>();
  heartbeat.nudge();
  await sleeping.promise;
  assert.equal(sent, 3);
  await heartbeat.stop();
});

test("two heartbeats can be missed within after_ms", () => {
  for (const [heartbeatMs, afterMs] of [[500, 3000], [100, 200], [50, 1000]]) {
    const timeoutMs = heartbeatTimeout({ heartbeatMs, afterMs });
    assert.ok(timeoutMs < afterMs && 2 * Math.max(timeoutMs, 50) <= afterMs, `${afterMs}`);
  }
});

test("a late answer is missed first, and counts when it comes", async () => {
  const answers: PromiseWithResolvers<NodeReport>[] = [];
  const given: number[] = [];
  const heartbeat = new Heartbeat({
    send: (timeoutMs) => {
      given.push(timeoutMs);
      answers.push(Promise.withResolvers());
      return answers.at(-1)!.promise;
    },
    everyMs: 500,
    timeoutMs: 20,
    onResult: () => {},
  });
  await heartbeat.beat();
  await heartbeat.beat();
  assert.deepEqual([heartbeat.contact().missed, heartbeat.contact().report], [2, null]);
  assert.match(heartbeat.contact().failure!, /20 ms/);
  answers[0].resolve(reportOf());
  await new Promise((resolve) => setTimeout(resolve, 0));
  const late = heartbeat.contact();
  assert.deepEqual([late.missed, late.failure, late.report?.name], [0, null, "b.example"]);
  answers[1].reject(new Error("given up"));
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(heartbeat.contact().missed, 0, "it was counted already");
  assert.deepEqual(given, [80, 80]);
});

test("stopping waits for the calls that are under way", async () => {
  let ended = false;
  const heartbeat = new Heartbeat({
    send: (_timeoutMs, signal) =>
      new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => {
          ended = true;
          reject(new Error("stopped"));
        })
      ),
    everyMs: 500,
    timeoutMs: 10,
    onResult: () => {},
  });
  await heartbeat.beat();
  assert.equal(heartbeat.contact().missed, 1);
  await heartbeat.stop();
  assert.equal(ended, true);
});

test("contact is steady from its first moment after an outage or an illness", async () => {
  let answer: () => NodeReport = () => reportOf();
  const { heartbeat, clock } = heartbeatWith(() => answer());
  const steadyMs = () => heartbeat.contact().steadyMs;
  assert.equal(steadyMs(), 0);
  await heartbeat.beat();
  clock.now += 5000;
  answer = away;
  await heartbeat.beat();
  assert.equal(steadyMs(), 5000, "a single lost heartbeat is no outage");
  await heartbeat.beat();
  assert.equal(steadyMs(), 0);
  answer = () => reportOf();
  await heartbeat.beat();
  clock.now += 700;
  assert.equal(steadyMs(), 700);
  answer = () => reportOf({ database_ok: false, database_gone_ms: 1500 });
  await heartbeat.beat();
  assert.deepEqual([steadyMs(), heartbeat.contact().unwellMs], [0, 1500]);
  clock.now += 500;
  await heartbeat.beat();
  assert.equal(heartbeat.contact().unwellMs, 2000);
});
