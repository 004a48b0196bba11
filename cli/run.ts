// `agent run`: the node in the foreground until SIGTERM or SIGINT, then a clean end. Logs to standard error only.
import process from "node:process";
import { type Command, Option } from "commander";
import { runNode } from "../agent/agent.ts";
import { startLog } from "../agent/monitor/log.ts";
import { contextOf } from "./context.ts";

const lingerMs = 2000;

export function addRun(program: Command): void {
  program.command("run")
    .description("run this node in the foreground until SIGTERM or SIGINT")
    .addOption(new Option("--log <form>", "how to log to standard error").choices(["text", "json"]).default("text"))
    .action(async (options: { log: "text" | "json" }, command: Command) => {
      const { home, debug } = contextOf(command);
      await startLog({ format: options.log, level: debug ? "debug" : "info" });
      const stopped = signalled();
      const node = await runNode(home);
      await stopped;
      await node.stop();
      // All is taken down. A connection whose end was lost must not keep the process, as that to a server that goes on would.
      setTimeout(() => process.exit(), lingerMs).unref();
    });
}

/** Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. */
function signalled(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    const stop = () => {
      if (asked) process.exit(1);
      asked = true;
      resolve();
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
  });
}
