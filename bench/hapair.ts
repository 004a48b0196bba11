// hapair as a system of the bench: the compiled agent, set up as an operator would, its agents at their defaults.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { planPair, setupPrimary, setupSecondary, waitSteady } from "../test/helpers/pair.ts";
import type { PairNode } from "../test/helpers/pair_node.ts";
import { runningProcesses } from "../test/helpers/processes.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { serverSettings, type System } from "./system.ts";

export async function makeHapair(scope: Scope, version: number, schema: string): Promise<System> {
  const pair = await planPair(scope, { version });
  const { primary, secondary } = pair;
  await setupPrimary(pair);
  // The secondary gets these with the copy.
  const lines = Object.entries(serverSettings).map(([name, value]) => `${name} = '${value}'\n`);
  appendFileSync(join(primary.pgdata, "postgresql.conf"), lines.join(""));
  primary.start();
  await primary.waitStatus("open to clients", ({ node }) => node.state === "serving" && node.writable, 60_000);
  await primary.superuser.unsafe(schema).simple();
  await primary.agent(["pack", "create"]);
  await setupSecondary(pair);
  secondary.start();
  await waitSteady(pair);
  return {
    source: primary.superuser,
    sink: secondary.superuser,
    pgdata: [primary.pgdata, secondary.pgdata],
    // Its PostgreSQL stays up, as that of a disabled subscription does.
    pause: async () => await Promise.resolve(secondary.killAgent()),
    resume: async () => await Promise.resolve(secondary.start()),
    programs: () => agentsOf([primary, secondary]),
  };
}

function agentsOf(nodes: PairNode[]): Record<string, number> {
  const all = runningProcesses();
  return Object.fromEntries(nodes.flatMap((node) => {
    const found = all.find(({ command }) => command.endsWith(`run --home ${node.home}`));
    return found ? [[`${node.role}'s agent`, found.pid]] : [];
  }));
}
