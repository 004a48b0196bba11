// `agent setup primary` and `agent setup secondary`: options in, steps and the next thing to do out.
import type { Command } from "commander";
import { UsageError } from "../agent/errors.ts";
import { type PrimaryOptions, setupPrimary } from "../agent/setup/primary.ts";
import { type SecondaryOptions, setupSecondary } from "../agent/setup/secondary.ts";
import { contextOf, parsePort, parseText, requireOption } from "./context.ts";
import { watchSteps } from "./steps.ts";

export function addSetup(program: Command): void {
  const setup = program.command("setup").description("make this server a node of a pair");
  setup.command("primary")
    .description("make the primary, and the pack that its secondary is made from")
    .argument("<primary>", "this server: fqdn[:port], port 8282 if left out")
    .argument("<secondary>", "the other server: fqdn[:port]")
    .option("--pgdata <dir>", "a cluster that the agent runs; made if the folder is empty or missing", parseText)
    .option("--database <url>", "an existing server instead; superuser", parseText)
    .option("--start-command <command>", "how that server is started, e.g. systemctl start postgresql", parseText)
    .option("--stop-command <command>", "how that server is stopped", parseText)
    .option("--dbname <name>", "the database (default: that of the URL, else app)", parseText)
    .option("--pg-bin <dir>", "folder of PostgreSQL's programs", parseText)
    .option("--pg-port <port>", "port of PostgreSQL (default: 3456)", parsePort)
    .option("--os-user <name>", "whom PostgreSQL runs as, if the agent runs as root", parseText)
    .option("--key <file>", "the master key", parseText)
    .option("--create-key", "make the master key if the file is not there")
    .option("--config <file>", "TOML merged into agent.toml: table policies, primary-only rules", parseText)
    .option("--restart", "restart a running server if its settings need it")
    .option("--replace", "make a new pack although a secondary has joined: it must be set up again")
    .action(async (primary: string, secondary: string, options: PrimaryOptions, command: Command) => {
      const context = contextOf(command);
      const result = await setupPrimary(context.home, { primary, secondary }, options, watchSteps(context));
      context.print(
        result,
        `Ready. Copy ${result.pack} and the master key to ${result.secondary}, then there:\n` +
          `  agent setup secondary --pack HAPack.zip --pgdata DIR --key FILE\n` +
          `and on both servers: agent run`,
      );
    });
  setup.command("secondary")
    .description("make the secondary from a pack")
    .option("--pack <file>", "the primary's HAPack.zip", parseText)
    .option("--from <url>", "get the pack from the primary itself", parseText)
    .option("--token <token>", "join token of the primary, for --from", parseText)
    .option("--pgdata <dir>", "where the cluster will be", parseText)
    .option("--database <url>", "a server that somebody else runs on --pgdata; superuser", parseText)
    .option("--start-command <command>", "how that server is started, e.g. systemctl start postgresql", parseText)
    .option("--stop-command <command>", "how that server is stopped", parseText)
    .option("--pg-bin <dir>", "folder of PostgreSQL's programs", parseText)
    .option("--pg-port <port>", "port of PostgreSQL (default: the primary's)", parsePort)
    .option("--os-user <name>", "whom PostgreSQL runs as, if the agent runs as root", parseText)
    .option("--key <file>", "the master key, as on the primary", parseText)
    .option("--replace", "put an existing cluster aside (it is renamed, never deleted)")
    .action(async (options: Partial<SecondaryOptions> & { from?: string; token?: string }, command: Command) => {
      if (options.from !== undefined || options.token !== undefined) {
        throw new UsageError(
          "Cannot set up from the primary directly: this agent only takes a pack file yet",
          "copy HAPack.zip from the primary and name it with --pack",
        );
      }
      const pack = requireOption(options.pack, "Cannot set up a secondary: no pack is named", "add --pack HAPack.zip");
      const pgdata = requireOption(
        options.pgdata,
        "Cannot set up a secondary: no --pgdata is given",
        "add --pgdata DIR",
      );
      const context = contextOf(command);
      const result = await setupSecondary(context.home, { ...options, pack, pgdata }, watchSteps(context));
      context.print(result, `Ready. Start it with: agent run`);
    });
}
