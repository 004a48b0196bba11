// Detection and takeover: from a fault of the primary to the first write that the secondary accepts, at the failover
// settings that a user has by default. Each run ends with the pair as it was before.
import { setTimeout as pause } from "node:timers/promises";
import type { Sql } from "../agent/postgres/connect.ts";
import { makePair, type Pair, waitSteady } from "../test/helpers/pair.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { waitFor } from "../test/helpers/wait.ts";

/** As in the README. Only steady_ms, which delays the way back and nothing that is measured, is shorter. */
export const userSettings = {
  heartbeat_ms: 500,
  after_ms: 3000,
  peer_wait_ms: 10_000,
  fence_timeout_ms: 2000,
  steady_ms: 100,
};

interface Fault {
  readonly what: string;
  strike(pair: Pair): void;
  mend(pair: Pair): void;
}

export const faults: Readonly<Record<string, Fault>> = {
  kill: {
    what: "kill -9 of the primary's agent and PostgreSQL",
    strike: ({ primary }) => primary.kill(),
    mend: ({ primary }) => primary.start(),
  },
  stop: {
    what: "SIGSTOP of the primary's PostgreSQL",
    strike: ({ primary }) => primary.freezePostgres(),
    mend: ({ primary }) => primary.thawPostgres(),
  },
  cut: {
    what: "link cut",
    strike: ({ link }) => link.cut(),
    mend: ({ link }) => link.heal(),
  },
};

/** For each of `names` the milliseconds of each run. Kinds alternate, so that none has the quieter part of the time. */
export async function measureFaults(
  scope: Scope,
  { version, names, runs }: { version: number; names: readonly string[]; runs: number },
): Promise<Map<string, number[]>> {
  const pair = await makePair(scope, {
    version,
    link: true,
    failover: userSettings,
    load: async (sql) => void await sql`CREATE TABLE probe (id int PRIMARY KEY)`,
  });
  const [onPrimary, onSecondary] = [pair.primary.app(pair.target), pair.secondary.app(pair.target)];
  const measured = new Map(names.map((name): [string, number[]] => [name, []]));
  let id = 0;
  for (let run = 1; run <= runs; run++) {
    for (const name of names) {
      await onPrimary`INSERT INTO probe VALUES (${++id})`;
      const sent = id;
      await waitFor(async () => (await pair.secondary.superuser`SELECT FROM probe WHERE id = ${sent}`).length > 0, {
        what: "the primary's write on the secondary",
        deadlineMs: 30_000,
      });
      // At any moment between two heartbeats.
      await pause(Math.random() * userSettings.heartbeat_ms);
      const struck = performance.now();
      faults[name].strike(pair);
      await firstWrite(onSecondary, () => ++id);
      const ms = performance.now() - struck;
      measured.get(name)?.push(ms);
      console.error(`${name}, run ${run}: ${ms.toFixed(0)} ms`);
      faults[name].mend(pair);
      await waitSteady(pair, 120_000);
    }
  }
  return measured;
}

/** As an application that tries again and again. Whoever has to wait for an answer for long would not see the moment. */
async function firstWrite(sql: Sql, nextId: () => number): Promise<void> {
  await waitFor(async () => (await sql`INSERT INTO probe VALUES (${nextId()})`).count === 1, {
    what: "a write on the secondary",
    deadlineMs: 60_000,
    everyMs: 5,
  });
}
