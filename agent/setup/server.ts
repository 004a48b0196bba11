// The primary's PostgreSQL made ready for setup: made, started, restarted or only looked at, and left as it was found.
// Never restarts a running server that the caller did not allow to be restarted.
import { resolve } from "node:path";
import { realpathSync } from "node:fs";
import { RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { connectionError, openPool, type Sql, type Target } from "../postgres/connect.ts";
import { readStatus } from "../postgres/postmaster.ts";
import {
  type Cluster,
  clusterMajor,
  configure,
  initCluster,
  localTarget,
  startCluster,
  stopCluster,
} from "../postgres/server.ts";
import { checkSettings, readSettings } from "../postgres/settings.ts";
import { closedTo } from "../pack/seed.ts";
import { clusterAt, programsFor } from "./cluster.ts";
import { ensureDatabase } from "./database.ts";
import { openExisting, refuseUnfit } from "./existing.ts";
import { type Document, makeHome } from "./files.ts";
import { checkPort, type NodeName } from "./names.ts";
import type { Steps } from "./steps.ts";

export interface ServerOptions {
  readonly pgdata?: string;
  readonly database?: string;
  readonly dbname?: string;
  readonly pgBin?: string;
  readonly pgPort?: number;
  readonly osUser?: string;
  readonly restart?: boolean;
  /** How a server that somebody else runs is started and stopped. */
  readonly startCommand?: string;
  readonly stopCommand?: string;
}

export interface ReadyServer {
  readonly target: Target;
  readonly sql: Sql;
  /** agent.toml's [postgres]. */
  readonly section: Document;
  /** The port that the application uses. */
  readonly port: number;
  /** Ends the pool, and stops the server if setup started it. */
  release(): Promise<void>;
}

/** What is left out, as agent.toml has it if that is about the same server. */
export function withPresent(options: ServerOptions, present: Document | null): ServerOptions {
  const section = (present?.postgres ?? {}) as Record<string, string | number | undefined>;
  const { pgdata, database } = options.pgdata === undefined && options.database === undefined
    ? { pgdata: section.pgdata as string | undefined, database: section.url as string | undefined }
    : options;
  const same = pgdata === undefined ? database === section.url : resolve(pgdata) === section.pgdata;
  if (!same) return options;
  return {
    ...options,
    pgdata,
    database,
    dbname: options.dbname ?? section.dbname as string | undefined,
    pgBin: options.pgBin ?? section.bin_dir as string | undefined,
    pgPort: options.pgPort ?? (pgdata === undefined ? undefined : section.port as number | undefined),
    osUser: options.osUser ?? section.os_user as string | undefined,
    startCommand: options.startCommand ?? section.start_command as string | undefined,
    stopCommand: options.stopCommand ?? section.stop_command as string | undefined,
  };
}

/**
 * The server that the options name, with its database, settings checked. The home is made once nothing speaks against it,
 * if the server that the agent runs needs it; otherwise it is left to the caller.
 */
export async function openServer(home: Home, node: NodeName, options: ServerOptions, steps: Steps) {
  if ((options.pgdata === undefined) === (options.database === undefined)) {
    throw new UsageError(
      "Cannot set up a primary: " + (options.pgdata === undefined ? "no server is named" : "two servers are named"),
      "add either --pgdata DIR (a cluster that the agent runs) or --database URL (an existing server)",
    );
  }
  if (options.pgdata !== undefined && (options.startCommand ?? options.stopCommand) !== undefined) {
    throw new UsageError(
      "Cannot set up a primary: --start-command and --stop-command are for a server that somebody else runs",
      "leave them out: the agent itself starts and stops the cluster in --pgdata",
    );
  }
  return options.database === undefined
    ? await openManaged(home, node, { ...options, pgdata: resolve(options.pgdata!) }, steps)
    : await openExisting(home, options.database, options, steps);
}

async function openManaged(
  home: Home,
  node: NodeName,
  options: ServerOptions & { pgdata: string },
  steps: Steps,
): Promise<ReadyServer> {
  const { pgdata } = options;
  const major = clusterMajor(pgdata);
  const status = readStatus(pgdata);
  const binaries = programsFor(major, options.pgBin, `the cluster in ${pgdata}`);
  const port = options.pgPort ?? (status.running ? status.port : null) ?? 3456;
  const cluster = clusterAt(home, { pgdata, binaries, port, listen: node.host, osUser: options.osUser });
  const dbname = options.dbname ?? "app";
  let started = false;
  if (status.running) await adopt(home, cluster, status.socketDir, options.restart ?? false, steps);
  else {
    await checkPort(node.host, port);
    makeHome(home);
    if (major === undefined) await steps.run("cluster made", () => initCluster(cluster), () => pgdata);
    // Nobody but setup may come in: the guard does not stand yet.
    await configure(closedTo(cluster));
    started = true;
    await steps.run("PostgreSQL started", () => startCluster(closedTo(cluster)), () => `version ${binaries.version}`);
  }
  const target = { ...localTarget(cluster, dbname), port: readPort(cluster) };
  const leave = async () => {
    if (!started) return;
    await stopCluster(cluster);
    await configure(cluster);
  };
  const sql = openPool(target, { purpose: "setup" });
  try {
    await steps.run(
      "database",
      () => ensureDatabase(home, { ...target, database: "postgres" }, dbname),
      (made) => `${dbname} ${made ? "made" : "found"}`,
    );
    await steps.run("server settings", () => refuseUnfit(sql, target));
  } catch (error) {
    await sql.end({ timeout: 1 });
    await leave();
    throw error;
  }
  const section = {
    pgdata,
    bin_dir: binaries.binDir,
    port,
    listen: node.host,
    dbname,
    ...(cluster.user ? { os_user: cluster.user.name } : {}),
  };
  const release = async () => {
    await sql.end({ timeout: 5 });
    await leave();
  };
  return { target, sql, section, port, release };
}

function readPort(cluster: Cluster): number {
  const status = readStatus(cluster.pgdata);
  return (status.running ? status.port : null) ?? cluster.port;
}

/** A running cluster: taken as it is if the agent could run it so, else restarted if that is allowed. */
async function adopt(
  home: Home,
  cluster: Cluster,
  socketDir: string,
  mayRestart: boolean,
  steps: Steps,
): Promise<void> {
  const problem = await restartReason(cluster, socketDir);
  if (problem !== null && !mayRestart) {
    throw new RefusedError(
      `Cannot set up with the server running in ${cluster.pgdata}: it must be restarted: ${problem}`,
      "add --restart, which restarts it now, or stop it first",
    );
  }
  makeHome(home);
  if (problem === null) return;
  await steps.run("PostgreSQL restarted", async () => {
    await configure(cluster);
    await stopCluster(cluster);
    await startCluster(cluster);
  }, () => problem);
}

async function restartReason(cluster: Cluster, socketDir: string): Promise<string | null> {
  // With trust on its socket the agent gets in; that socket must therefore lie in the agent's private folder.
  if (!samePath(socketDir, cluster.socketDir)) return "its socket is not in the private folder of the agent";
  const port = readPort(cluster);
  if (port !== cluster.port) return `its port is ${port}, not ${cluster.port}`;
  const target = localTarget(cluster, "postgres");
  const sql = openPool(target, { purpose: "setup", max: 1 });
  try {
    const findings = checkSettings(await readSettings(sql)).filter((each) => each.needsRestart);
    return findings.length ? findings.map(({ name, need }) => `${name} must be ${need}`).join(", ") : null;
  } catch (error) {
    throw connectionError(error, target);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

function samePath(one: string, other: string): boolean {
  const real = (path: string) => {
    try {
      return realpathSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return resolve(path);
      throw error;
    }
  };
  return one !== "" && real(one) === real(other);
}
