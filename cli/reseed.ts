// `agent reseed`: the secondary made anew from its primary. The agent of this home must not run.
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import { RefusedError, UnreachableError } from "../agent/errors.ts";
import type { Home } from "../agent/home.ts";
import { reseed } from "../agent/setup/reseed.ts";
import { contextOf } from "./context.ts";
import { watchSteps } from "./steps.ts";

const help = `
For a secondary that has fallen too far behind, whose disk was lost, or whose data is in doubt. Stop its agent first; the
primary's must run. The primary makes a new pack, which is fetched, verified and recovered as by agent setup secondary.
The former data is renamed, never deleted.`;

export function addReseed(program: Command): void {
  program.command("reseed")
    .description("on the secondary: make it anew from its primary")
    .option("--force", "although it may hold changes that the primary has not")
    .addHelpText("after", help)
    .action(async (options: { force?: boolean }, command: Command) => {
      const context = contextOf(command);
      await refuseAgent(context.home);
      const result = await reseed(context.home, options, watchSteps(context));
      context.print(result, `Ready. Start it with: agent run`);
    });
}

/** Whatever an agent answers, it is one that runs. */
async function refuseAgent(home: Home): Promise<void> {
  if (!existsSync(home.adminSocket)) return;
  const runs = await callAgent(home.adminSocket, "GET", "/status").then(
    () => true,
    (error) => !(error instanceof UnreachableError && /no agent runs/.test(error.message)),
  );
  if (runs) {
    throw new RefusedError("Cannot reseed: the agent of this node runs", "stop it first; the primary's must run");
  }
}
