// What an operator may ask for in which state: each refusal with its exit code and its reason, and what is let through.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AgentError } from "../../agent/errors.ts";
import { type NodeReport, noOrders, type Orders, type Role, type State } from "../../agent/report.ts";
import {
  checkFailover,
  checkMaintenance,
  isSwitchedOver,
  mostPendingBytes,
  notInTime,
  type PairSight,
  planSwitchover,
} from "../../agent/role/commands.ts";
import { orderServing } from "../../agent/role/orders.ts";
import { recordOf } from "../helpers/observation.ts";
import { reportOf } from "../helpers/report.ts";

const over = orderServing(noOrders, "primary", "secondary");

type Changes = Partial<Omit<PairSight, "peer">> & {
  peer?: Partial<PairSight["peer"]>;
  report?: Partial<NodeReport>;
  inSync?: boolean;
  orders?: Orders;
};

/** The pair as the node of that role sees it, with its state and the peer's. */
function sightOf(role: Role, here: State, there: State, { peer, report, inSync, orders, ...more }: Changes = {}) {
  const sight: PairSight = {
    name: role === "primary" ? "a.example" : "b.example",
    record: recordOf({ role, state: here, inSync: inSync ?? true, orders: orders ?? noOrders }),
    databaseOk: true,
    writable: here === "serving" || here === "handing_back",
    pendingBytes: 0,
    holdsMerge: false,
    prepared: [],
    peer: {
      name: role === "primary" ? "b.example" : "a.example",
      reachable: true,
      failure: null,
      refuses: false,
      report: reportOf({ role: role === "primary" ? "secondary" : "primary", state: there, ...report }),
      ...peer,
    },
    ...more,
  };
  return sight;
}

function refusal(run: () => unknown): [number, string] {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof AgentError);
    assert.match(error.message, /^Cannot [^:]+: ./);
    assert.ok(error.remedy.length > 5);
    return [error.exitCode, error.message];
  }
  assert.fail("it was let through");
}

const away = { peer: { reachable: false, failure: "connection refused" } };

const refusedSwitchovers: [what: string, sight: PairSight, to: Role | undefined, exitCode: number, says: RegExp][] = [
  ["the peer is away", sightOf("primary", "serving", "standby", away), undefined, 4, /b\.example.*connection refused/],
  ["never heard of", sightOf("primary", "serving", "standby", { peer: { report: null } }), undefined, 4, /not answer/],
  ["own database gone", sightOf("primary", "serving", "standby", { databaseOk: false }), undefined, 3, /of a\.example/],
  [
    "the peer's database gone",
    sightOf("primary", "serving", "standby", { report: { database_ok: false } }),
    undefined,
    3,
    /of b\.example/,
  ],
  ["a split", sightOf("primary", "serving", "serving"), "primary", 3, /both nodes serve/],
  ["a split that ends", sightOf("secondary", "handing_back", "serving"), "secondary", 3, /both nodes serve/],
  ["nobody serves", sightOf("primary", "starting", "standby"), undefined, 3, /nobody serves.*starting.*standby/],
  ["it serves already", sightOf("primary", "serving", "standby"), "primary", 3, /a\.example serves already/],
  [
    "it serves on purpose",
    sightOf("primary", "catching_up", "serving", { orders: over }),
    "secondary",
    3,
    /b\.example serves already/,
  ],
  ["it hands back now", sightOf("secondary", "draining", "catching_up"), "secondary", 3, /at this moment/],
  ["it is being seeded", sightOf("primary", "serving", "seeding"), undefined, 3, /b\.example is seeding/],
  [
    "its stream does not flow",
    sightOf("primary", "serving", "standby", { report: { incoming_pending_bytes: null } }),
    undefined,
    3,
    /takes in no changes/,
  ],
  [
    "it is far behind",
    sightOf("secondary", "standby", "serving", { pendingBytes: mostPendingBytes + 1 }),
    undefined,
    3,
    /b\.example is 17 MB behind/,
  ],
  ["never level", sightOf("secondary", "standby", "serving", { inSync: false }), undefined, 3, /never been level/],
  [
    "prepared transactions",
    sightOf("primary", "serving", "standby", { prepared: ["one", "two", "three", "four"] }),
    undefined,
    3,
    /4 prepared.*one, two, three, \.\.\./,
  ],
  ["the primary starts", sightOf("secondary", "serving", "starting"), undefined, 3, /a\.example is starting/],
  [
    "the merge is held there",
    sightOf("secondary", "serving", "catching_up", { report: { merge_held: true } }),
    undefined,
    3,
    /held at a\.example/,
  ],
  ["the merge is held here", sightOf("primary", "catching_up", "serving", { holdsMerge: true }), undefined, 3, /held/],
];

for (const [what, sight, to, exitCode, says] of refusedSwitchovers) {
  test(`a switchover is refused: ${what}`, () => {
    const [code, message] = refusal(() => planSwitchover(sight, to));
    assert.equal(code, exitCode);
    assert.match(message, says);
  });
}

const switchovers: [what: string, sight: PairSight, asked: Role | undefined, to: Role, order: boolean][] = [
  ["to whoever does not serve", sightOf("primary", "serving", "standby"), undefined, "secondary", true],
  ["asked at the secondary", sightOf("secondary", "standby", "serving"), undefined, "secondary", true],
  ["under way", sightOf("primary", "serving", "standby", { orders: over }), "secondary", "secondary", false],
  ["back", sightOf("primary", "catching_up", "serving", { orders: over }), undefined, "primary", true],
  ["back by itself already", sightOf("secondary", "handing_back", "catching_up"), undefined, "primary", false],
  [
    "called off while it drains",
    sightOf("primary", "draining", "standby", { orders: over }),
    "primary",
    "primary",
    true,
  ],
  ["no handback, please", sightOf("secondary", "handing_back", "catching_up"), "secondary", "secondary", true],
];

for (const [what, sight, asked, to, order] of switchovers) {
  test(`a switchover: ${what}`, () => assert.deepEqual(planSwitchover(sight, asked), { to, order }));
}

test("a switchover is done when the one takes writes and the other does not", () => {
  const serving = { report: { writable: true } };
  assert.ok(isSwitchedOver(sightOf("primary", "catching_up", "serving", serving), "secondary"));
  assert.ok(isSwitchedOver(sightOf("secondary", "serving", "draining"), "secondary"));
  assert.ok(isSwitchedOver(sightOf("secondary", "serving", "catching_up", away), "secondary"));
  assert.ok(!isSwitchedOver(sightOf("secondary", "serving", "draining", { writable: false }), "secondary"));
  assert.ok(!isSwitchedOver(sightOf("primary", "draining", "standby"), "secondary"));
  assert.ok(!isSwitchedOver(sightOf("primary", "catching_up", "serving", { ...serving, ...away }), "secondary"));
  assert.ok(!isSwitchedOver(sightOf("primary", "catching_up", "handing_back", serving), "primary"));
  const { message, exitCode } = notInTime(sightOf("primary", "serving", "standby"), "secondary", 60);
  assert.match(message, /not done after 60 s: this node is serving, its peer standby/);
  assert.equal(exitCode, 1);
});

test("a failover is for a node that does not serve, whose peer is away or sick", () => {
  checkFailover(sightOf("secondary", "standby", "serving", away));
  checkFailover(sightOf("secondary", "standby", "serving", { report: { database_ok: false } }));
  checkFailover(sightOf("primary", "catching_up", "serving", away));
  checkFailover(sightOf("primary", "starting", "standby", { peer: { reachable: false, report: null } }));
  const refused: [PairSight, RegExp][] = [
    [sightOf("primary", "serving", "standby", away), /serves already/],
    [sightOf("secondary", "handing_back", "catching_up", away), /serves already/],
    [sightOf("secondary", "draining", "catching_up", away), /is handing over/],
    [sightOf("secondary", "standby", "serving", { ...away, databaseOk: false }), /database of b\.example/],
    [sightOf("secondary", "standby", "serving", { ...away, inSync: false }), /lacks data/],
    [
      sightOf("secondary", "standby", "serving", {
        peer: { reachable: false, refuses: true, failure: "another pair" },
      }),
      /alive, but .*another pair/,
    ],
    [sightOf("secondary", "standby", "serving"), /a\.example can be reached and is serving/],
    [sightOf("secondary", "standby", "starting"), /can be reached and is starting/],
  ];
  for (const [sight, says] of refused) {
    const [code, message] = refusal(() => checkFailover(sight));
    assert.equal(code, 3);
    assert.match(message, says);
  }
});

test("maintenance that the secondary does not hear of is none; it may begin it alone, and anybody may end it", () => {
  checkMaintenance(sightOf("primary", "serving", "standby"), true);
  checkMaintenance(sightOf("secondary", "standby", "serving", away), true);
  checkMaintenance(sightOf("primary", "serving", "standby", away), false);
  const [code, message] = refusal(() => checkMaintenance(sightOf("primary", "serving", "standby", away), true));
  assert.equal(code, 4);
  assert.match(message, /may take over by itself/);
});
