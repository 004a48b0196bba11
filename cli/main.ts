// The command line: parses, dispatches, turns errors into two lines and an exit code. Knows no more than that.
import process from "node:process";
import { Command, CommanderError } from "commander";
import { agentVersion } from "../agent/version.ts";
import { addCert } from "./cert.ts";
import { addBackup, addRestore } from "./backup.ts";
import { addCheck } from "./check.ts";
import { addConflicts } from "./conflicts.ts";
import { describeError } from "./context.ts";
import { addKey } from "./key.ts";
import { addMerge } from "./merge.ts";
import { addPack } from "./pack.ts";
import { addReseed } from "./reseed.ts";
import { addRun } from "./run.ts";
import { addFailover, addMaintenance, addSwitchover } from "./operate.ts";
import { addService } from "./service.ts";
import { addSetup } from "./setup.ts";
import { addStatus } from "./status.ts";
import { addToken } from "./token.ts";

const subcommands = [
  addSetup,
  addRun,
  addStatus,
  addCheck,
  addSwitchover,
  addFailover,
  addMaintenance,
  addMerge,
  addConflicts,
  addPack,
  addKey,
  addCert,
  addBackup,
  addRestore,
  addService,
  addToken,
  addReseed,
];

function makeProgram(): Command {
  const program = new Command("agent")
    .description("Makes two PostgreSQL servers a pair that can be written on either side and loses no row.")
    .version(agentVersion)
    .option("--home <dir>", "folder of this node", process.env.AGENT_HOME || "/var/lib/hapair")
    .option("--json", "print results as JSON")
    .option("--debug", "show where an error came from")
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({ outputError: () => {} });
  for (const add of subcommands) add(program);
  return program;
}

/** Runs one command line; returns the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    await makeProgram().parseAsync(args, { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help, --version
    if (error instanceof CommanderError && error.code === "commander.help") return 2; // the help was shown already
    const { lines, exitCode } = describeError(error);
    process.stderr.write(lines.join("\n") + "\n");
    if (args.includes("--debug") && error instanceof Error) {
      for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
        process.stderr.write(`${cause.stack ?? cause.message}\n`);
      }
    }
    return exitCode;
  }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
