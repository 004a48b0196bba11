// Who keeps the node's PostgreSQL running, and what becomes of it when the agent ends: one that the agent runs is stopped
// with it; one that somebody else runs goes on, but closed to writers.
import { getLogger } from "@logtape/logtape";
import type { Config } from "../config.ts";
import { reason } from "../errors.ts";
import type { Home } from "../home.ts";
import { CommandKeeper } from "../postgres/command_keeper.ts";
import { type CommandedServer } from "../postgres/commands.ts";
import type { Sql, Target } from "../postgres/connect.ts";
import { withDeadline } from "../postgres/deadline.ts";
import { Keeper } from "../postgres/keeper.ts";
import { closeGuard, guardIsOpen } from "../role/guard.ts";
import type { Record } from "../role/states.ts";
import type { NodeDatabase } from "./database.ts";

const log = getLogger(["hapair", "node"]);
const closeMs = 10_000;

/** The server of the config with its commands. */
export function commandedServer(home: Home, postgres: Config["postgres"], target: Target): CommandedServer {
  const { start_command, stop_command } = postgres;
  return { target, startCommand: start_command, stopCommand: stop_command, logFile: home.commandLog };
}

/** Null for a server that somebody else both starts and stops. */
export function keeperOf(home: Home, config: Config, { cluster, target }: NodeDatabase): Keeper | CommandKeeper | null {
  const tell = (what: string) => log.info("{what}", { what });
  if (cluster) return new Keeper(cluster, tell);
  return config.postgres.start_command ? new CommandKeeper(commandedServer(home, config.postgres, target), tell) : null;
}

/**
 * The agent ends and PostgreSQL does not: without an agent nobody replicates what is written here, and the secondary takes
 * over. So writers are kept out until an agent is back.
 */
export async function closeBehind(sql: Sql, dbname: string, { epoch, state }: Record): Promise<void> {
  try {
    if (!await withDeadline(guardIsOpen(sql), closeMs, "look at the guard")) return;
    await withDeadline(closeGuard(sql, { dbname, epoch, state }), closeMs, "close the guard");
    log.info("PostgreSQL goes on without the agent: closed to writers");
  } catch (error) {
    // It may be down itself; then it is closed at its next start, as it is after any.
    log.warn("PostgreSQL could not be closed to writers: {reason}", { reason: reason(error) });
  }
}
