// `agent setup primary` and `agent setup secondary`: options in, steps and the next thing to do out.
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { UsageError } from "../agent/errors.ts";
import type { Home } from "../agent/home.ts";
import { setupFromPrimary } from "../agent/setup/from_primary.ts";
import { type PrimaryOptions, setupPrimary } from "../agent/setup/primary.ts";
import { type SecondaryOptions, setupSecondary } from "../agent/setup/secondary.ts";
import type { Steps } from "../agent/setup/steps.ts";
import { contextOf, parsePort, parseText, requireOption } from "./context.ts";
import { refuseAgent } from "./running.ts";
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
    .option(
      "--token <token>",
      "what agent token printed on the primary, for --from; - reads it from standard input",
      parseText,
    )
    .option("--pgdata <dir>", "where the cluster will be", parseText)
    .option("--database <url>", "a server that somebody else runs on --pgdata; superuser", parseText)
    .option("--start-command <command>", "how that server is started, e.g. systemctl start postgresql", parseText)
    .option("--stop-command <command>", "how that server is stopped", parseText)
    .option("--pg-bin <dir>", "folder of PostgreSQL's programs", parseText)
    .option("--pg-port <port>", "port of PostgreSQL (default: the primary's)", parsePort)
    .option("--os-user <name>", "whom PostgreSQL runs as, if the agent runs as root", parseText)
    .option("--key <file>", "the master key, as on the primary", parseText)
    .option("--replace", "put an existing cluster aside (it is renamed, never deleted)")
    .action(async (options: SecondaryArguments, command: Command) => {
      const context = contextOf(command);
      const run = secondarySetup(options);
      await refuseAgent(context.home, "set up a secondary", "stop it first");
      const result = await run(context.home, watchSteps(context));
      context.print(result, `Ready. Start it with: agent run`);
    });
}

type SecondaryArguments = Partial<SecondaryOptions> & { from?: string; token?: string };

/** From a file or from the primary; one of the two. */
function secondarySetup({ pack, from, token, ...options }: SecondaryArguments) {
  const cannot = "Cannot set up a secondary";
  const direct = from !== undefined || token !== undefined;
  if (pack !== undefined && direct) {
    throw new UsageError(`${cannot}: a pack file and a primary are named`, "leave out --pack, or --from and --token");
  }
  if (!direct) requireOption(pack, `${cannot}: no pack is named`, "add --pack HAPack.zip, or --from and --token");
  const pgdata = requireOption(options.pgdata, `${cannot}: no --pgdata is given`, "add --pgdata DIR");
  return (home: Home, steps: Steps) => {
    if (pack !== undefined) return setupSecondary(home, { ...options, pack, pgdata }, steps);
    const url = requireOption(from, `${cannot}: --token needs --from`, "add --from https://PRIMARY:8282");
    const word = requireOption(token, `${cannot}: --from needs --token`, "make one with agent token on the primary");
    return setupFromPrimary(home, { ...options, from: url, token: readToken(word), pgdata }, steps);
  };
}

/** `-`: the first line of standard input, so that the token stands in no list of processes. */
function readToken(word: string): string {
  return word === "-" ? readFileSync(0, "utf8").split("\n")[0] : word;
}
