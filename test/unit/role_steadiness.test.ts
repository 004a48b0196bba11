// Hysteresis: how long a primary that comes and goes must stay before it gets its role back, and who remembers it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { step } from "../../agent/role/machine.ts";
import { steadyNeeded, takeoversOfLate, withTakeover } from "../../agent/role/steadiness.ts";
import { peerOf, recordOf, seenOf, settings } from "../helpers/observation.ts";

const minute = 60_000;

test("each further takeover within ten minutes doubles the wait, five at most are remembered", () => {
  let takeovers: readonly number[] = [];
  const waits = [steadyNeeded(takeovers, 0, 3000)];
  for (let n = 0; n < 7; n++) {
    takeovers = withTakeover(takeovers, n * minute);
    waits.push(steadyNeeded(takeovers, n * minute, 3000));
  }
  assert.deepEqual(waits, [3000, 3000, 6000, 12_000, 24_000, 48_000, 48_000, 48_000]);
  assert.equal(takeovers.length, 5);
  assert.equal(takeoversOfLate(takeovers, 12 * minute), 4);
  assert.equal(steadyNeeded(takeovers, 16 * minute, 3000), 3000, "all are long ago");
  assert.equal(steadyNeeded([99 * minute], 5 * minute, 3000), 3000, "the clock was set back");
});

test("a takeover by itself is remembered, one by order is not; the wait follows from it", () => {
  const silent = { peerSilentMs: 3000, missedHeartbeats: 2 };
  const standby = recordOf({ role: "secondary", state: "standby" });
  const taken = step(standby, seenOf({ ...silent, peer: peerOf({ state: "serving" }) }), settings, 5000).record;
  assert.deepEqual([taken.state, taken.takeovers], ["serving", [5000]]);
  const unwell = seenOf({ peer: peerOf({ state: "serving", databaseOk: false, unwellMs: 3000 }) });
  assert.deepEqual(step(standby, unwell, settings, 5000).record.takeovers, [5000]);
  const maintenance = { ...standby.orders, maintenance: { on: true, number: 2 } };
  const asked = seenOf({ ...silent, failoverAsked: true });
  const ordered = step({ ...standby, orders: maintenance }, asked, settings, 5000).record;
  assert.deepEqual([ordered.state, ordered.takeovers], ["serving", []]);

  const back = recordOf({ role: "secondary", state: "handing_back", takeovers: [1000, 3000, 5000] });
  const steadyFor = (peerSteadyMs: number) =>
    step(back, seenOf({ peerSteadyMs, peer: peerOf({ state: "catching_up" }) }), settings, 6000).record.state;
  assert.deepEqual([steadyFor(3999), steadyFor(4000)], ["handing_back", "draining"]);
});
