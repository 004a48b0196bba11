// The table of the state machine: each row with what takes it and with what just does not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { diagramOf } from "../../agent/role/diagram.ts";
import { restarted, step } from "../../agent/role/machine.ts";
import { duties, firstRecord, statesOf } from "../../agent/role/states.ts";
import { transitions } from "../../agent/role/transitions.ts";
import { roles, type State } from "../../agent/report.ts";
import { noOrders, orderServing } from "../../agent/role/orders.ts";
import { recordOf, seenOf, settings } from "../helpers/observation.ts";
import { calledOff, cases, longSilent, maintained, over, peer, silent } from "../helpers/role_cases.ts";

for (const [role, from, to, what, seen, epochs, orders = noOrders] of cases) {
  test(`${role} ${from} ${from === to ? "stays" : "> " + to}: ${what}`, () => {
    const record = recordOf({ role, state: from, orders, ...(epochs ? { epoch: epochs[0] } : {}) });
    const result = step(record, seen, settings, 77);
    assert.equal(result.record.state, to);
    if (epochs) assert.equal(result.record.epoch, epochs[1]);
    assert.equal(result.record.since, from === to ? 0 : 77);
    assert.equal(result.actions.length > 0, from !== to);
    assert.equal(result.why !== null, from !== to);
  });
}

test("every row of the table is taken by a case", () => {
  const taken = new Set(
    cases.filter(([, from, to]) => from !== to).map(([role, from, , , seen, , orders = noOrders]) =>
      step(recordOf({ role, state: from, orders }), seen, settings, 0).why
    ),
  );
  assert.deepEqual(transitions.map((row) => row.comment).filter((comment) => !taken.has(comment)), []);
});

test("every state can be reached and left; comments and labels are whole", () => {
  for (const role of roles) {
    const rows = transitions.filter((row) => row.role === role);
    const reached = new Set<State>([firstRecord(role, 0).state]);
    for (let size = 0; size !== reached.size;) {
      size = reached.size;
      for (const row of rows) if (reached.has(row.from)) reached.add(row.to);
    }
    assert.deepEqual([...reached].sort(), [...statesOf[role]].sort());
    for (const state of statesOf[role]) assert.ok(rows.some((row) => row.from === state), `${role} ${state}`);
  }
  for (const { comment, label, from, to } of transitions) {
    assert.match(comment, /^[a-z].*[^.]$/);
    assert.ok(label.length <= 45 && from !== to, label);
  }
});

test("a secondary that was never level does not take over; it notes when it was", () => {
  const fresh = firstRecord("secondary", 0);
  assert.equal(step(fresh, seenOf(silent), settings, 1).record, fresh);
  assert.equal(step(fresh, seenOf({ level: false, ...peer({ state: "serving" }) }), settings, 1).record.inSync, false);
  const noted = step(fresh, seenOf(peer({ state: "serving" })), settings, 1);
  assert.deepEqual([noted.record.inSync, noted.actions], [true, []]);
  assert.equal(step(noted.record, seenOf(silent), settings, 1).record.state, "serving");
});

test("the newer order holds, on whichever side it was given; numbers of the two sides never meet", () => {
  const theirs = orderServing(over, "secondary", "primary");
  assert.deepEqual([over.serves.number, theirs.serves.number, calledOff.serves.number], [1, 2, 3]);
  const record = recordOf({ state: "serving", orders: over });
  assert.deepEqual(step(record, seenOf(peer({ orders: theirs })), settings, 1).record.orders, theirs);
  const both = { serves: theirs.serves, maintenance: maintained.maintenance };
  const noted = step({ ...record, orders: maintained }, seenOf(peer({ orders: theirs })), settings, 1);
  assert.deepEqual(noted.record.orders, both);
});

test("a switchover that comes to nothing is called off: the secondary lost, or not at the fence in time", () => {
  const lost = step(recordOf({ state: "serving", orders: over }), seenOf(silent), settings, 1);
  assert.deepEqual([lost.record.state, lost.record.orders], ["serving", calledOff]);
  const late = step(recordOf({ state: "draining", orders: over }), seenOf({ inStateMs: 10_000 }), settings, 1);
  assert.deepEqual([late.record.state, late.record.orders], ["draining", calledOff]);
  const alone = step(recordOf({ state: "catching_up", orders: over }), seenOf(longSilent), settings, 1);
  assert.deepEqual([alone.record.state, alone.record.orders], ["serving", calledOff]);
});

test("nothing new is the same record, so nothing is written", () => {
  const record = recordOf({ state: "serving" });
  assert.equal(step(record, seenOf(), settings, 1).record, record);
});

test("a primary starts by looking who serves; a secondary goes on where it was", () => {
  for (const state of statesOf.primary) {
    const wanted = state === "draining" ? "draining" : "starting";
    assert.equal(restarted(recordOf({ role: "primary", state }), 5).state, wanted);
  }
  for (const state of statesOf.secondary) {
    assert.equal(restarted(recordOf({ role: "secondary", state }), 5).state, state);
  }
  assert.equal(restarted(recordOf({ state: "failed" }), 5).state, "failed");
});

test("the guard is open only while serving, and what is open is captured", () => {
  for (const role of roles) {
    for (const state of statesOf[role]) {
      const { guard, capture } = duties({ role, state });
      assert.equal(guard === "open", state === "serving" || state === "handing_back", `${role} ${state}`);
      if (guard === "open" || guard === "fenced") assert.ok(capture);
    }
    assert.equal(duties({ role, state: "failed" }).guard, "closed");
  }
});

test("the diagram has a line for each row", () => {
  const text = roles.map(diagramOf).join("\n");
  assert.equal(text.match(/ --> /g)?.length, transitions.length + roles.length);
});
