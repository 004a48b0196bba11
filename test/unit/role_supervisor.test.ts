// The supervisor with its hands recorded: what it does in which order, and what it does again.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { NodeReport } from "../../agent/report.ts";
import type { PeerContact } from "../../agent/role/heartbeat.ts";
import { readRecord, writeRecord } from "../../agent/role/record.ts";
import { firstRecord, type Record } from "../../agent/role/states.ts";
import { type Hands, type LocalView, Supervisor } from "../../agent/role/supervisor.ts";
import { orderMaintenance, orderServing } from "../../agent/role/orders.ts";
import { recordOf, settings } from "../helpers/observation.ts";
import { reportOf } from "../helpers/report.ts";

class Bench {
  readonly done: string[] = [];
  readonly held: string[] = [];
  now = 1000;
  guardOpen = false;
  /** The guard reads as closed, but whether the sessions have ended nobody knows. */
  closedHalf = false;
  local: LocalView = {
    databaseOk: true,
    diskFull: false,
    appliedLsn: 0x1000n,
    currentLsn: 0x2000n,
    preparedOpen: false,
    level: true,
    peerExpected: true,
  };
  peer: Partial<PeerContact> = {};
  failing: Partial<{ [K in keyof Hands]: Error }> = {};
  persisted: Record | null = null;
  readonly supervisor: Supervisor;

  constructor(record: Record) {
    this.supervisor = new Supervisor({
      record,
      settings,
      everyMs: 500,
      hands: this.#hands(),
      clock: { monotonic: () => this.now, wall: () => this.now },
    });
  }

  says(changed: Partial<NodeReport>, contact: Partial<PeerContact> = {}): void {
    this.peer = { report: reportOf({ epoch: 0, ...changed }), askedAt: this.now, ...contact };
  }

  /** What one turn does. */
  async turn(): Promise<string[]> {
    this.done.length = 0;
    await this.supervisor.turn();
    await this.supervisor.settled();
    return [...this.done];
  }

  #hands(): Hands {
    const did = (what: keyof Hands) => {
      this.done.push(what);
      const error = this.failing[what];
      return error ? Promise.reject(error) : Promise.resolve();
    };
    return {
      observe: () => this.failing.observe ? Promise.reject(this.failing.observe) : Promise.resolve(this.local),
      guardIsOpen: () => Promise.resolve(this.guardOpen),
      isShut: () => !this.guardOpen && !this.closedHalf,
      openGuard: () => did("openGuard").then(() => void (this.guardOpen = true)),
      closeGuard: () => did("closeGuard").then(() => void (this.guardOpen = this.closedHalf = false)),
      fence: () => did("fence").then(() => 0x2000n),
      startCapture: () => did("startCapture"),
      stopCapture: () => did("stopCapture"),
      startApply: () => did("startApply"),
      stopApply: () => did("stopApply"),
      persist: (record) => did("persist").then(() => void (this.persisted = record)),
      announce: ({ from, to }) => void this.done.push(`${from}>${to}`),
      tellPeer: () => void this.done.push("tellPeer"),
      holds: ({ state }) => void this.held.push(state),
      contact: () => ({
        report: null,
        lastSeen: null,
        silentMs: 0,
        missed: 0,
        refusal: null,
        failure: null,
        unwellMs: 0,
        steadyMs: 60_000,
        askedAt: null,
        clockSkewMs: null,
        ...this.peer,
      }),
    };
  }
}

const lost = { silentMs: 3000, missed: 2 };

test("a takeover is persisted, announced and told before capture starts and the guard opens", async () => {
  const bench = new Bench(recordOf({ role: "secondary", state: "standby", epoch: 1 }));
  bench.peer = lost;
  assert.deepEqual(await bench.turn(), [
    "persist",
    "standby>serving",
    "tellPeer",
    "startCapture",
    "startApply",
    "openGuard",
  ]);
  assert.deepEqual([bench.persisted?.state, bench.persisted?.epoch], ["serving", 2]);
  assert.deepEqual(await bench.turn(), ["startCapture", "startApply"], "then it only re-asserts");
  bench.guardOpen = false;
  assert.deepEqual(await bench.turn(), ["startCapture", "startApply", "openGuard"]);
});

test("what cannot be persisted is not done", async () => {
  const bench = new Bench(recordOf({ role: "secondary", state: "standby" }));
  bench.peer = lost;
  bench.failing = { persist: new Error("no space left on device") };
  assert.deepEqual(await bench.turn(), ["persist", "stopCapture", "startApply"]);
  assert.equal(bench.supervisor.record.state, "standby");
  bench.failing = {};
  await bench.turn();
  assert.equal(bench.supervisor.record.state, "serving");
});

test("without capture the guard stays closed; it opens as soon as capture works", async () => {
  const bench = new Bench(recordOf({ role: "secondary", state: "serving", epoch: 2 }));
  bench.failing = { startCapture: new Error("too many slots") };
  assert.deepEqual(await bench.turn(), ["startCapture", "startApply"]);
  bench.failing = {};
  assert.deepEqual(await bench.turn(), ["startCapture", "startApply", "openGuard"]);
});

test("a handback: fenced once, told at once, stands by when the primary has everything, closes first", async () => {
  const bench = new Bench(recordOf({ role: "secondary", state: "handing_back", epoch: 2 }));
  bench.guardOpen = true;
  bench.says({ name: "a", role: "primary", state: "catching_up", epoch: 2, applied_lsn: "0/1FFF" });
  assert.deepEqual(await bench.turn(), [
    "persist",
    "handing_back>draining",
    "tellPeer",
    "fence",
    "tellPeer",
    "startCapture",
    "startApply",
  ]);
  assert.equal(bench.supervisor.fenceLsn, 0x2000n);
  assert.deepEqual(await bench.turn(), ["closeGuard", "startCapture", "startApply"]);
  bench.says({ name: "a", role: "primary", state: "catching_up", epoch: 2, applied_lsn: "0/2000" });
  assert.deepEqual(await bench.turn(), ["persist", "draining>standby", "tellPeer", "stopCapture", "startApply"]);
  assert.equal(bench.supervisor.fenceLsn, 0x2000n, "the primary may still have to see it");
});

test("a primary that merges while it serves tells a draining peer once that its fence is reached", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "serving", epoch: 3 }));
  bench.says({ state: "draining", fence_lsn: "0/1001", epoch: 2 });
  assert.ok(!(await bench.turn()).includes("tellPeer"));
  bench.local = { ...bench.local, appliedLsn: 0x1001n };
  assert.ok((await bench.turn()).includes("tellPeer"));
  assert.ok(!(await bench.turn()).includes("tellPeer"));
});

test("a guard that was closed without word that its sessions have ended is closed again", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "catching_up" }));
  bench.says({ state: "serving", epoch: 2 });
  bench.closedHalf = true;
  bench.failing.closeGuard = new Error("the connection was lost");
  assert.deepEqual((await bench.turn()).slice(-3), ["closeGuard", "startCapture", "startApply"]);
  assert.deepEqual(bench.held, []);
  delete bench.failing.closeGuard;
  assert.deepEqual(await bench.turn(), ["closeGuard", "startCapture", "startApply"]);
  assert.deepEqual(bench.held, ["catching_up"]);
  assert.deepEqual(await bench.turn(), ["startCapture", "startApply"]);
});

test("a starting primary leaves the guard as it is until it knows who serves", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "starting" }));
  bench.guardOpen = true;
  assert.deepEqual(await bench.turn(), ["startCapture", "startApply"]);
  bench.says({ state: "serving", epoch: 2 });
  const did = await bench.turn();
  assert.deepEqual(did.slice(-3), ["closeGuard", "startCapture", "startApply"]);
});

test("a database that does not answer is left alone, and gives up serving after after_ms", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "serving" }));
  bench.failing = { observe: new Error("connection refused") };
  assert.deepEqual(await bench.turn(), []);
  bench.now += 3000;
  assert.deepEqual(await bench.turn(), ["persist", "serving>starting", "tellPeer"]);
});

test("a look that hangs counts as a database that does not answer, and is not doubled", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "serving" }));
  let looks = 0;
  const hanging = new Supervisor({
    record: recordOf({ role: "primary", state: "serving" }),
    settings: { ...settings, afterMs: 20 },
    everyMs: 1,
    hands: {
      observe: () => {
        looks++;
        return new Promise(() => {});
      },
      persist: () => {},
      announce: () => {},
      tellPeer: () => {},
      contact: () => ({ ...bench.peer, report: null, silentMs: 0, missed: 0, refusal: null } as PeerContact),
    } as unknown as Hands,
  });
  while (hanging.record.state === "serving") await hanging.turn();
  assert.equal(hanging.record.state, "starting");
  assert.equal(looks, 1);
});

test("an order is persisted before it is told, and what cannot be persisted is not ordered", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "serving" }));
  bench.failing = { persist: new Error("no space left on device") };
  await assert.rejects(bench.supervisor.order((orders, by) => orderMaintenance(orders, by, true)), /no space/);
  assert.equal(bench.supervisor.record.orders.maintenance.on, false);
  bench.failing = {};
  bench.done.length = 0;
  await bench.supervisor.order((orders, by) => orderMaintenance(orders, by, true));
  assert.deepEqual(bench.done, ["persist", "tellPeer"]);
  assert.deepEqual(bench.persisted?.orders.maintenance, { on: true, number: 1 });
});

test("a switchover: the primary is fenced, waits for the secondary to serve, and follows it", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "serving", epoch: 1 }));
  bench.guardOpen = true;
  bench.says({ state: "standby" });
  await bench.supervisor.order((orders, by) => orderServing(orders, by, "secondary"));
  assert.deepEqual(await bench.turn(), [
    ...["persist", "serving>draining", "tellPeer"],
    ...["fence", "tellPeer", "startCapture", "startApply"],
  ]);
  assert.equal(bench.supervisor.fenceLsn, 0x2000n);
  bench.guardOpen = false;
  assert.deepEqual(await bench.turn(), ["startCapture", "startApply"]);
  bench.says({ state: "serving", epoch: 2 });
  assert.deepEqual((await bench.turn()).slice(0, 3), ["persist", "draining>catching_up", "tellPeer"]);
  assert.deepEqual(bench.held, ["draining", "catching_up"]);
});

test("a failover that is asked for is taken once, or not at all", async () => {
  const bench = new Bench(recordOf({ role: "secondary", state: "standby", epoch: 1 }));
  bench.says({ name: "a", role: "primary", state: "serving", epoch: 1 });
  assert.equal(await bench.supervisor.failover(), false, "the primary is well");
  bench.peer = { ...bench.peer, ...lost };
  await bench.supervisor.order((orders, by) => orderMaintenance(orders, by, true));
  await bench.turn();
  assert.equal(bench.supervisor.record.state, "standby", "what was asked in vain is not kept");
  assert.equal(await bench.supervisor.failover(), true);
  await bench.supervisor.settled();
  assert.ok(bench.guardOpen);
  assert.equal(await bench.supervisor.failover(), false);
});

test("that a state holds is told once, when all that it demands is done", async () => {
  const bench = new Bench(recordOf({ role: "secondary", state: "serving", epoch: 2 }));
  bench.failing = { openGuard: new Error("too many connections") };
  await bench.turn();
  assert.deepEqual(bench.held, []);
  bench.failing = {};
  await bench.turn();
  await bench.turn();
  assert.deepEqual(bench.held, ["serving"]);
});

test("turns never overlap, and the loop ends when it is told to", async () => {
  const bench = new Bench(recordOf({ role: "primary", state: "serving" }));
  bench.supervisor.start();
  bench.supervisor.wake();
  await Promise.all([bench.supervisor.turn(), bench.supervisor.turn()]);
  await bench.supervisor.stop();
  const length = bench.done.length;
  bench.supervisor.wake();
  await bench.supervisor.settled();
  assert.equal(bench.done.length, length);
});

test("the record is read back as it was written; a broken one is an error, not a new one", () => {
  const folder = mkdtempSync(join(tmpdir(), "hap-"));
  const path = join(folder, "state.json");
  try {
    assert.equal(readRecord(path), null);
    const record = firstRecord("secondary", 5);
    writeRecord(path, record);
    assert.deepEqual(readRecord(path), record);
    const { orders: _, ...older } = record;
    writeFileSync(path, JSON.stringify({ version: 1, ...older }));
    assert.deepEqual(readRecord(path), record, "an agent of before there were orders wrote it");
    assert.deepEqual(readdirSync(folder), ["state.json"]);
    for (const broken of ["", "{", JSON.stringify({ version: 2, ...record }), JSON.stringify({ version: 1 })]) {
      writeFileSync(path, broken);
      assert.throws(() => readRecord(path), /Cannot read .*state\.json/);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
