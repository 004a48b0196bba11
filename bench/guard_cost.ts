// What the guard costs: TPC-B on the primary of a pair with and without the guard's triggers, in short legs of one run that
// alternate at random, over the same connections. Without: session_replication_role = replica, for which they do not fire.
import { setTimeout as pause } from "node:timers/promises";
import postgres from "postgres";
import { makePair } from "../test/helpers/pair.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { accountsPerBranch, makeTpcb, tellersPerBranch, tpcbStatements } from "../test/helpers/tpcb.ts";
import { applyServerSettings } from "./system.ts";
import { serverCpu } from "./usage.ts";

export interface Leg {
  readonly guarded: boolean;
  readonly tps: number;
  /** CPU of the primary's server for one transaction, in microseconds: other work on the machine does not show in it. */
  readonly cpuMicroseconds: number;
}

/** Legs in pairs, one of each kind, in random order. */
export async function measureGuard(
  scope: Scope,
  { version, legs, legMs, clients }: { version: number; legs: number; legMs: number; clients: number },
): Promise<Leg[]> {
  const branches = clients;
  const pair = await makePair(scope, { version, load: (sql) => makeTpcb(sql, { branches }) });
  const { primary, secondary } = pair;
  for (const { superuser } of [primary, secondary]) await applyServerSettings(superuser);
  // Both kinds as superuser: nobody else may set the role.
  const sql = postgres({
    host: `${primary.home}/run`,
    port: primary.pgPort,
    user: "postgres",
    database: "app",
    max: clients,
    max_lifetime: null,
    onnotice: () => {},
    connection: { application_name: "guard cost" },
  });
  scope.defer("the load's connections", () => sql.end({ timeout: 1 }));
  const connections = await Promise.all(Array.from({ length: clients }, () => sql.reserve()));
  const drawn = (count: number) => 1 + Math.floor(Math.random() * count);
  let turn = 0;

  const run = async (guarded: boolean): Promise<Leg> => {
    for (const each of connections) {
      await each.unsafe(`SET session_replication_role = ${guarded ? "origin" : "replica"}`);
    }
    let done = 0;
    let going = true;
    const cpu = serverCpu(primary.pgdata);
    const began = performance.now();
    const clientsDone = connections.map(async (each) => {
      while (going) {
        await each`BEGIN`;
        await tpcbStatements(each, {
          aid: drawn(branches * accountsPerBranch),
          tid: drawn(branches * tellersPerBranch),
          bid: drawn(branches),
          delta: drawn(10_001) - 5001,
          tag: `g${turn++}`,
        });
        await each`COMMIT`;
        done++;
      }
    });
    await pause(legMs);
    going = false;
    await Promise.all(clientsDone);
    const seconds = (performance.now() - began) / 1000;
    return {
      guarded,
      tps: done / seconds,
      cpuMicroseconds: (serverCpu(primary.pgdata) - cpu) / done * 1e6,
    };
  };

  // Caches, plans and the clients' own code get warm.
  for (const guarded of [true, false]) await run(guarded);
  const measured: Leg[] = [];
  for (let pairOfLegs = 1; pairOfLegs <= legs; pairOfLegs++) {
    const first = Math.random() < 0.5;
    for (const guarded of [first, !first]) {
      const leg = await run(guarded);
      measured.push(leg);
      console.error(
        `${guarded ? "with" : "without"} the guard: ${leg.tps.toFixed(0)} TPS, ` +
          `${leg.cpuMicroseconds.toFixed(0)} us of the server's CPU a transaction`,
      );
    }
  }
  for (const each of connections) each.release();
  return measured;
}
