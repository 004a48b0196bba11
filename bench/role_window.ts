// The time in which nobody takes writes when the role is handed over under load: from the last transaction acknowledged on
// one side to the first on the other, over all clients, each of which knows both hosts and reconnects by itself.
import { setTimeout as pause } from "node:timers/promises";
import { makePair, type Pair, waitSteady } from "../test/helpers/pair.ts";
import type { PairNode } from "../test/helpers/pair_node.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { checkHistory, makeTpcb, startTpcb, type TpcbLoad } from "../test/helpers/tpcb.ts";
import { waitFor } from "../test/helpers/wait.ts";
import { userSettings } from "./role_faults.ts";
import { applyServerSettings } from "./system.ts";

/** What is handed over, and by what. */
export const handovers = {
  over: "switchover to the secondary",
  back: "switchover back to the primary",
  handback: "handback after the primary was killed",
} as const;
export type Handover = keyof typeof handovers;

export interface Windows {
  readonly windows: ReadonlyMap<Handover, number[]>;
  readonly acknowledged: number;
  readonly missing: number;
  readonly doubled: number;
  /** What a client that follows the pair must not see. */
  readonly errors: readonly string[];
  readonly tps: number;
}

/** Acknowledgements as they come, by the port of the server: the newest of each, and the first after a mark. */
class Acknowledgements {
  readonly last = new Map<number, number>();
  readonly #first = new Map<number, number>();

  note(port: number): void {
    const now = performance.now();
    this.last.set(port, now);
    if (!this.#first.has(port)) this.#first.set(port, now);
  }

  /** From now on the first of each server is looked for anew. */
  mark(): void {
    this.#first.clear();
  }

  firstOf(port: number): number | undefined {
    return this.#first.get(port);
  }
}

export async function measureWindows(
  scope: Scope,
  { version, runs, clients, only }: { version: number; runs: number; clients: number; only: readonly Handover[] },
): Promise<Windows> {
  const branches = clients;
  const pair = await makePair(scope, {
    version,
    failover: userSettings,
    load: (sql) => makeTpcb(sql, { branches }),
  });
  const { primary, secondary } = pair;
  for (const { superuser } of [primary, secondary]) await applyServerSettings(superuser);
  const acknowledged = new Acknowledgements();
  const load = startTpcb(pair.target, { clients, branches, onAcknowledged: ({ port }) => acknowledged.note(port) });
  scope.defer("load", async () => void await load.stop());
  const windows = new Map<Handover, number[]>(only.map((kind) => [kind, []]));

  /** Runs `hand`, and measures what the clients see of it. */
  const measure = async (kind: Handover, to: PairNode, hand: () => Promise<unknown>) => {
    const from = to === primary ? secondary : primary;
    await more(load, 200);
    acknowledged.mark();
    await hand();
    const first = await waitFor(() => acknowledged.firstOf(to.pgPort), {
      what: `the first transaction on the ${to.role}`,
      deadlineMs: 120_000,
      everyMs: 1,
    });
    const ms = first - (acknowledged.last.get(from.pgPort) ?? NaN);
    windows.get(kind)?.push(ms);
    console.error(`${kind}: ${ms.toFixed(0)} ms`);
  };

  for (let run = 1; run <= runs; run++) {
    if (only.includes("over") || only.includes("back")) {
      await measure("over", secondary, () => primary.agent(["switchover", "--to", "secondary"]));
      await waitFollowed(pair);
      await measure("back", primary, () => secondary.agent(["switchover", "--to", "primary"]));
      await waitSteady(pair, 120_000);
    }
    if (only.includes("handback")) {
      await more(load, 200);
      primary.kill();
      await secondary.waitServing(60_000);
      await more(load, 500);
      await measure("handback", primary, () => Promise.resolve(primary.start()));
      await waitSteady(pair, 120_000);
    }
    // Not at the same moment of a heartbeat each time.
    await pause(Math.random() * userSettings.heartbeat_ms);
  }
  const report = await load.stop();
  await waitSteady(pair);
  const history = await checkHistory(primary.superuser, [report]);
  return {
    windows,
    acknowledged: report.acknowledged.length,
    missing: history.missing.length,
    doubled: history.doubled.length,
    errors: report.errors,
    tps: report.tps,
  };
}

async function more(load: TpcbLoad, count: number): Promise<void> {
  const before = load.acknowledged;
  await waitFor(() => load.acknowledged >= before + count, { what: `${count} transactions`, deadlineMs: 60_000 });
}

async function waitFollowed({ primary, secondary }: Pair): Promise<void> {
  await secondary.waitServing(60_000);
  await primary.waitStatus(
    "following a secondary that serves",
    (s) => s.node.state === "catching_up" && s.peer.reachable && s.peer.state === "serving",
    60_000,
  );
}
