// Random histories of two machines over a lossy link: however bad it was, once all is well the pair is as it should be.
// fast-check prints the seed and the shortest history of a failure.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Role, roles } from "../../agent/report.ts";
import { type Event, PairModel } from "../helpers/pair_model.ts";

const who = fc.constantFrom(...roles);
const event: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ kind: fc.constant("link" as const), up: fc.boolean() }),
  fc.record({ kind: fc.constant("agent" as const), who, up: fc.boolean() }),
  fc.record({ kind: fc.constant("database" as const), who, up: fc.boolean() }),
  fc.record({ kind: fc.constant("disk" as const), who, full: fc.boolean() }),
  fc.record({ kind: fc.constant("prepared" as const), who, open: fc.boolean() }),
  fc.record({ kind: fc.constant("crash_at_next_step" as const), who }),
  fc.record({ kind: fc.constant("pause" as const), who, ticks: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ kind: fc.constant("hold" as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant("switchover" as const), who, to: who }),
  fc.record({ kind: fc.constant("maintenance" as const), who, on: fc.boolean() }),
  fc.record({ kind: fc.constant("failover" as const), who }),
);
/** What happens, how long until the next, and which heartbeats of these are lost. */
const history = fc.array(
  fc.tuple(event, fc.integer({ min: 1, max: 30 }), fc.array(fc.boolean(), { maxLength: 8 })),
  { maxLength: 25 },
);

/** After a switchover that is not taken back. */
function assertSwitchedOver({ primary, secondary }: PairModel): void {
  assert.equal(primary.record.state, "catching_up", primary.record.why);
  assert.equal(secondary.record.state, "serving", secondary.record.why);
  assert.deepEqual([primary.guardOpen, secondary.guardOpen], [false, true]);
  assert.equal(secondary.applied, primary.wal, "the secondary lacks changes of the primary");
  assert.equal(primary.record.epoch, secondary.record.epoch);
  assert.equal(primary.record.epoch % 2, 0);
}

function assertWell({ primary, secondary }: PairModel): void {
  assert.equal(primary.record.state, "serving", primary.record.why);
  assert.equal(secondary.record.state, "standby", secondary.record.why);
  assert.deepEqual([primary.guardOpen, secondary.guardOpen], [true, false]);
  assert.equal(primary.applied, secondary.wal, "the primary lacks changes of the secondary");
  assert.equal(primary.record.epoch, secondary.record.epoch);
  assert.equal(primary.record.epoch % 2, 1);
}

/** Long enough for the backlogs, which shrink by 400 a tick while the other side goes on serving. */
function settle(pair: PairModel, { serves = "primary" as Role, ticks = 0 } = {}): void {
  const { primary, secondary } = pair;
  pair.heal();
  for (const who of roles) pair.happen({ kind: "maintenance", who, on: false });
  const long = ticks || 90 + (secondary.wal - primary.applied + primary.wal - secondary.applied) / 400;
  // Again after a while: the other side may have had the last word, which is not known here yet; and a switchover that
  // an agent comes back into the middle of, with much on its way, is called off.
  for (const wait of [5, long, long]) {
    for (const who of roles) pair.happen({ kind: "switchover", who, to: serves });
    for (let i = 0; i < wait; i++) pair.tick(false);
  }
}

test("after any history, once the link is stable, the one serves that is to, and the other follows", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(fc.boolean(), history, who, (leveled, events, serves) => {
      const pair = new PairModel();
      if (leveled) { for (let i = 0; i < 10; i++) pair.tick(false); }
      for (const [event, ticks, losses] of events) {
        pair.happen(event);
        for (let i = 0; i < ticks; i++) {
          pair.tick(losses[i % 8] ?? false);
          for (const { role, record } of pair.nodes) seen.add(`${role} ${record.state}`);
        }
      }
      settle(pair, { serves });
      if (serves === "primary") assertWell(pair);
      else assertSwitchedOver(pair);
    }),
    { numRuns: 3000 },
  );
  assert.equal(seen.size, 8, `states never seen: only ${[...seen]}`);
});

test("a crash right after any persisted step of a failover and its handback ends in the same place", () => {
  for (const role of roles) {
    for (let at = 0; at < 60; at++) {
      const pair = new PairModel();
      for (let tick = 0; tick < 90; tick++) {
        if (tick === 10) pair.happen({ kind: "agent", who: "primary", up: false });
        if (tick === 30) pair.happen({ kind: "agent", who: "primary", up: true });
        if (tick === at) pair.happen({ kind: "crash_at_next_step", who: role });
        // A crashed agent is started again by its service manager.
        if (!pair[role].agentUp && !(role === "primary" && tick < 30)) {
          pair.happen({ kind: "agent", who: role, up: true });
        }
        pair.tick(false);
      }
      assertWell(pair);
    }
  }
});

test("an agent that is back within after_ms causes no failover", () => {
  const pair = new PairModel();
  settle(pair, { ticks: 10 });
  pair.happen({ kind: "agent", who: "primary", up: false });
  for (let i = 0; i < 5; i++) pair.tick(false);
  pair.happen({ kind: "agent", who: "primary", up: true });
  for (let i = 0; i < 10; i++) {
    pair.tick(false);
    assert.equal(pair.secondary.record.state, "standby");
    assert.ok(pair.primary.guardOpen, "clients of a database that outlived its agent are not sent away");
  }
  assert.equal(pair.primary.record.epoch, 1);
});

test("the agent of the secondary paused for a long time does not take over when it goes on", () => {
  const pair = new PairModel();
  settle(pair, { ticks: 10 });
  pair.happen({ kind: "pause", who: "secondary", ticks: 50 });
  for (let i = 0; i < 60; i++) {
    pair.tick(i === 51);
    assert.equal(pair.secondary.record.state, "standby");
  }
});

test("under a hold the secondary serves on, however little is on its way; released, the primary takes over", () => {
  const pair = new PairModel();
  for (let i = 0; i < 10; i++) pair.tick(false);
  pair.happen({ kind: "agent", who: "primary", up: false });
  for (let i = 0; i < 10; i++) pair.tick(false);
  pair.happen({ kind: "hold", on: true });
  pair.happen({ kind: "agent", who: "primary", up: true });
  for (let i = 0; i < 60; i++) {
    pair.tick(false);
    assert.ok(pair.secondary.guardOpen, `${i}: ${pair.secondary.record.why}`);
  }
  assert.deepEqual([pair.primary.record.state, pair.secondary.record.state], ["catching_up", "handing_back"]);
  settle(pair);
  assertWell(pair);
});

/** Short enough that nobody is given up: a lost heartbeat, an agent or a server that is back at once, a crash. */
const hiccup: fc.Arbitrary<Event> = fc.oneof(
  fc.record({ kind: fc.constant("crash_at_next_step" as const), who }),
  fc.record({ kind: fc.constant("agent" as const), who, up: fc.constant(false) }),
  fc.record({ kind: fc.constant("database" as const), who, up: fc.constant(false) }),
  fc.record({ kind: fc.constant("switchover" as const), who, to: who }),
  fc.record({ kind: fc.constant("maintenance" as const), who, on: fc.boolean() }),
);

test("in an orderly switchover never both take writes, whatever restarts on the way and however often it is reversed", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(hiccup, fc.integer({ min: 1, max: 12 }), fc.boolean()), { maxLength: 30 }),
      who,
      (events, serves) => {
        const pair = new PairModel();
        for (let i = 0; i < 10; i++) pair.tick(false);
        const tick = (lost: boolean) => {
          pair.tick(lost);
          assert.ok(!(pair.primary.guardOpen && pair.secondary.guardOpen), "both take writes");
          for (const node of pair.nodes) {
            pair.happen({ kind: "agent", who: node.role, up: true });
            pair.happen({ kind: "database", who: node.role, up: true });
          }
        };
        for (const [event, ticks, lost] of events) {
          pair.happen(event);
          for (let i = 0; i < ticks; i++) tick(lost && i % 3 === 0);
        }
        settle(pair, { serves });
        if (serves === "primary") assertWell(pair);
        else assertSwitchedOver(pair);
      },
    ),
    { numRuns: 3000 },
  );
});

test("a crash right after any persisted step of a switchover and back ends in the same place", () => {
  for (const role of roles) {
    for (const asked of roles) {
      for (let at = 0; at < 60; at++) {
        const pair = new PairModel();
        for (let tick = 0; tick < 80; tick++) {
          for (const node of pair.nodes) pair.happen({ kind: "agent", who: node.role, up: true });
          if (tick === at) pair.happen({ kind: "crash_at_next_step", who: role });
          if (tick === 10) pair.happen({ kind: "switchover", who: asked, to: "secondary" });
          if (tick === 45) assertSwitchedOver(pair);
          if (tick === 45) pair.happen({ kind: "switchover", who: asked, to: "primary" });
          pair.tick(false);
          assert.ok(!(pair.primary.guardOpen && pair.secondary.guardOpen), `tick ${tick}: both take writes`);
        }
        assertWell(pair);
      }
    }
  }
});

test("a primary that handed over serves again if it loses the secondary, but in maintenance only when it is told to", () => {
  for (const maintenance of [false, true]) {
    const pair = new PairModel();
    for (let i = 0; i < 10; i++) pair.tick(false);
    pair.happen({ kind: "switchover", who: "primary", to: "secondary" });
    if (maintenance) pair.happen({ kind: "maintenance", who: "secondary", on: true });
    for (let i = 0; i < 20; i++) pair.tick(false);
    assertSwitchedOver(pair);
    pair.happen({ kind: "agent", who: "secondary", up: false });
    pair.happen({ kind: "database", who: "secondary", up: false });
    for (let i = 0; i < 30; i++) pair.tick(false);
    assert.equal(pair.primary.guardOpen, !maintenance, pair.primary.record.why);
    if (maintenance) {
      pair.happen({ kind: "agent", who: "primary", up: false });
      pair.happen({ kind: "agent", who: "primary", up: true });
      for (let i = 0; i < 30; i++) pair.tick(false);
      assert.equal(pair.primary.guardOpen, false, "nor after a restart");
      pair.happen({ kind: "failover", who: "primary" });
      pair.tick(false);
    }
    assert.ok(pair.primary.guardOpen, pair.primary.record.why);
    pair.heal();
    for (let i = 0; i < 60; i++) pair.tick(false);
    assertWell(pair);
  }
});

test("in maintenance the secondary takes over only when it is told to; off again, it does by itself", () => {
  for (const told of [false, true]) {
    const pair = new PairModel();
    for (let i = 0; i < 10; i++) pair.tick(false);
    pair.happen({ kind: "maintenance", who: "primary", on: true });
    for (let i = 0; i < 3; i++) pair.tick(false);
    pair.happen({ kind: "agent", who: "primary", up: false });
    pair.happen({ kind: "database", who: "primary", up: false });
    for (let i = 0; i < 30; i++) pair.tick(false);
    assert.equal(pair.secondary.record.state, "standby");
    pair.happen(told ? { kind: "failover", who: "secondary" } : { kind: "maintenance", who: "secondary", on: false });
    pair.tick(false);
    assert.ok(pair.secondary.guardOpen, pair.secondary.record.why);
  }
});
