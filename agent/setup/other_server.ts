// The secondary's PostgreSQL where somebody else runs it, e.g. systemd or Debian's pg_ctlcluster with its configuration in
// /etc: stopped while its data is exchanged, and started on the copy. Its configuration files are never touched.
import { RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { type CommandedServer, ensureStarted, ensureStopped } from "../postgres/commands.ts";
import { openPool } from "../postgres/connect.ts";
import { readStatus } from "../postgres/postmaster.ts";
import type { Cluster } from "../postgres/server.ts";
import { leaveToOthers } from "../postgres/server_config.ts";
import { parseDatabaseUrl, refuseUnfit } from "./existing.ts";
import type { Steps } from "./steps.ts";

export interface OtherServer extends CommandedServer {
  readonly url: string;
}

/** Null: the agent runs the data itself. */
export function otherServer(
  home: Home,
  options: { readonly database?: string; readonly startCommand?: string; readonly stopCommand?: string },
  dbname: string,
): OtherServer | null {
  const { database: url, startCommand, stopCommand } = options;
  if (url !== undefined) {
    return { url, target: parseDatabaseUrl(url, dbname), startCommand, stopCommand, logFile: home.commandLog };
  }
  if ((startCommand ?? stopCommand) === undefined) return null;
  throw new UsageError(
    "Cannot set up a secondary: --start-command and --stop-command are for a server that somebody else runs",
    "add --database URL, under which it will answer, or leave them out",
  );
}

/** Whoever runs it must not see its data exchanged. */
export async function stopOther(other: OtherServer, { pgdata }: Pick<Cluster, "pgdata">): Promise<void> {
  if (!readStatus(pgdata).running) return;
  await ensureStopped(other);
  if (!readStatus(pgdata).running) return;
  throw new RefusedError(
    `Cannot use ${pgdata}: a PostgreSQL server still runs in it, though --stop-command has stopped that of --database`,
    "see that --database and --stop-command are about the server of --pgdata",
  );
}

/** The copy, closed to writers, given to whoever runs it; what it has to have there is looked at once it runs. */
export async function handOver(other: OtherServer, { pgdata }: Cluster, steps: Steps): Promise<void> {
  leaveToOthers(pgdata);
  if (other.startCommand === undefined) return;
  await steps.run("PostgreSQL started", () => ensureStarted(other), () => "by --start-command");
  const sql = openPool(other.target, { purpose: "setup", max: 1 });
  try {
    await steps.run("server settings", () => refuseUnfit(sql, other.target));
    if (!readStatus(pgdata).running) {
      throw new RefusedError(
        `Cannot use ${pgdata}: no server runs in it, though --start-command has started that of --database`,
        "see that --database and --start-command are about the server of --pgdata",
      );
    }
  } finally {
    await sql.end({ timeout: 5 });
  }
}
