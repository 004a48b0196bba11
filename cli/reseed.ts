// `agent reseed`: the secondary made anew from its primary. The agent of this home must not run.
import type { Command } from "commander";
import { reseed } from "../agent/setup/reseed.ts";
import { contextOf } from "./context.ts";
import { refuseAgent } from "./running.ts";
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
      await refuseAgent(context.home, "reseed", "stop it first; the primary's must run");
      const result = await reseed(context.home, options, watchSteps(context));
      context.print(result, `Ready. Start it with: agent run`);
    });
}
