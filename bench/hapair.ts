// hapair as a system of the bench: the compiled agent, set up as an operator would, its agents at their defaults.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { planPair, setupPrimary, setupSecondary, waitSteady } from "../test/helpers/pair.ts";
import type { PairNode } from "../test/helpers/pair_node.ts";
import { runningProcesses } from "../test/helpers/processes.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { programsOf } from "./servers.ts";
import { endingIn, serverSettings, type System, type SystemOptions } from "./system.ts";
import { type Distance, openDistance } from "./wan.ts";

export async function makeHapair(scope: Scope, { version, schema, distance }: SystemOptions): Promise<System> {
  const pair = await planPair(scope, { version, binDir: programsOf(version) });
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
  if (distance) await setApart(scope, primary, secondary, distance);
  secondary.start();
  await waitSteady(pair);
  const user = { user: "postgres", database: "app" };
  return {
    source: primary.superuser,
    sourceTarget: { host: join(primary.home, "run"), port: primary.pgPort, ...user },
    ...endingIn(primary.superuser, secondary.superuser),
    pgdata: [primary.pgdata, secondary.pgdata],
    // Its PostgreSQL stays up, as that of a disabled subscription does.
    pause: async () => await Promise.resolve(secondary.killAgent()),
    resume: async () => await Promise.resolve(secondary.start()),
    programs: () => agentsOf([primary, secondary]),
  };
}

/** Each agent is told an address of the other that leads over the distance. */
async function setApart(scope: Scope, primary: PairNode, secondary: PairNode, distance: Distance): Promise<void> {
  await primary.stop();
  for (const [node, peer] of [[primary, secondary], [secondary, primary]]) {
    const { host, port } = await openDistance(scope, peer, distance);
    node.configure({ node: { listen: node.name }, peer: { address: `${host}:${port}` } });
  }
  primary.start();
  await primary.waitServing(60_000);
}

function agentsOf(nodes: PairNode[]): Record<string, number> {
  const all = runningProcesses();
  return Object.fromEntries(nodes.flatMap((node) => {
    const found = all.find(({ command }) => command.endsWith(`run --home ${node.home}`));
    return found ? [[`${node.role}'s agent`, found.pid]] : [];
  }));
}
