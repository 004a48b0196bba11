// A PostgreSQL cluster that the agent runs: made, configured, started, adopted, watched, stopped.
// Never deletes data: the folder of an existing cluster is only ever started from.
import { Buffer } from "node:buffer";
import {
  closeSync,
  existsSync,
  fchownSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AgentError, UsageError } from "../errors.ts";
import { type Binaries, program } from "./binaries.ts";
import type { Target } from "./connect.ts";
import { checkReach, ensurePrivateDir, type OsUser, runAs } from "./os_user.ts";
import { isAlive, isPostgres, type PidFile, processesIn, readStatus } from "./postmaster.ts";
import { managedSettings, type Settings, writeSettings } from "./server_config.ts";

export interface Cluster {
  readonly binaries: Binaries;
  readonly pgdata: string;
  readonly port: number;
  /** listen_addresses; empty = only the private socket. */
  readonly listen: string;
  /** A private folder (made 0700) for the socket. */
  readonly socketDir: string;
  readonly logFile: string;
  /** Whom the server runs as; null = the agent's own user. */
  readonly user: OsUser | null;
  /** Settings besides the agent's own, e.g. `fsync = off` in tests. */
  readonly settings?: Settings;
}

/** Another program listens at the server's port. */
export class PortTakenError extends AgentError {
  constructor(readonly port: number, options?: { cause?: unknown }) {
    super(
      `Cannot start PostgreSQL: port ${port} is taken by another program`,
      "stop that program, or choose another port with --pg-port",
      options,
    );
  }
}

/** Checks the paths that the server will use. Throws AgentError or UsageError with the remedy. */
function checkPaths(cluster: Cluster): void {
  const socket = join(cluster.socketDir, `.s.PGSQL.${cluster.port}`);
  // sockaddr_un holds 107 bytes on Linux, 103 on macOS.
  if (new TextEncoder().encode(socket).length > 103) {
    throw new UsageError(
      `Cannot start PostgreSQL: the path of its socket, ${socket}, is longer than 103 bytes`,
      "choose a home with a shorter path",
    );
  }
  checkReach(cluster.user, cluster.binaries.binDir, "the programs of PostgreSQL");
}

/** The major version of the cluster in `pgdata`; undefined where the folder is missing or empty. */
export function clusterMajor(pgdata: string): number | undefined {
  const file = join(pgdata, "PG_VERSION");
  if (existsSync(file)) return Number.parseInt(readFileSync(file, "utf8"), 10);
  if (!existsSync(pgdata) || readdirSync(pgdata).length === 0) return undefined;
  throw new UsageError(
    `Cannot use ${pgdata}: it is neither empty nor a PostgreSQL cluster`,
    "name an empty or missing folder, or that of a cluster, with --pgdata",
  );
}

/** Makes a cluster in an empty or missing folder: UTF8, data checksums, superuser `postgres`, scram for hosts. */
export async function initCluster(cluster: Cluster, { sync = true } = {}): Promise<void> {
  if (clusterMajor(cluster.pgdata) !== undefined) {
    throw new UsageError(`Cannot make a cluster in ${cluster.pgdata}: there is one already`, "name another folder");
  }
  checkPaths(cluster);
  ensurePrivateDir(cluster.pgdata, cluster.user);
  checkReach(cluster.user, cluster.pgdata, "the data");
  // Collations of the C library differ between machines, and with them the order of index entries; a copy must not.
  const locale = cluster.binaries.major >= 17
    ? ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    : ["--locale=C"];
  const ran = await runAs(cluster.user, program(cluster.binaries.binDir, "initdb"), [
    `--pgdata=${cluster.pgdata}`,
    "--username=postgres",
    "--encoding=UTF8",
    ...locale,
    "--data-checksums",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    ...(sync ? [] : ["--no-sync"]),
  ]);
  if (ran.status !== 0) {
    throw new AgentError(
      `Cannot make a cluster in ${cluster.pgdata}: initdb says: ${lastLines(ran.output, 3)}`,
      "see that the disk has room and that the folder belongs to the user that PostgreSQL runs as",
    );
  }
  await configure(cluster, { openToHosts: true });
}

/** Writes the agent's settings into a cluster that is not running (or for its next start). */
export async function configure(cluster: Cluster, { openToHosts = false } = {}): Promise<void> {
  const atLeast: Record<string, number> = {};
  for (const name of ["max_replication_slots", "max_wal_senders"]) {
    atLeast[name] = Number(await readSetting(cluster, name));
  }
  const settings = { ...managedSettings({ ...cluster, atLeast }), ...cluster.settings };
  writeSettings(cluster.pgdata, settings, { openToHosts });
}

/** A setting as the cluster's files have it, whether it runs or not. */
export async function readSetting(cluster: Cluster, name: string): Promise<string> {
  const ran = await runAs(cluster.user, program(cluster.binaries.binDir, "postgres"), [
    "-C",
    name,
    "-D",
    cluster.pgdata,
  ]);
  if (ran.status === 0) return ran.output.trim().split("\n").at(-1) ?? "";
  throw new AgentError(
    `Cannot read the settings of the cluster in ${cluster.pgdata}: ${lastLines(ran.output, 2)}`,
    "correct its postgresql.conf",
  );
}

export interface Started extends PidFile {
  /** True if it was running before. */
  readonly adopted: boolean;
}

/** Starts the cluster and waits until it takes connections; one that runs already is adopted as it is. */
export async function startCluster(cluster: Cluster, { timeoutMs = 60_000 } = {}): Promise<Started> {
  const before = readStatus(cluster.pgdata);
  if (before.running) return { ...await waitReady(cluster, timeoutMs), adopted: true };
  const major = clusterMajor(cluster.pgdata);
  if (major !== cluster.binaries.major) {
    throw new UsageError(
      `Cannot start PostgreSQL in ${cluster.pgdata}: ` +
        (major === undefined
          ? "there is no cluster"
          : `it is of version ${major}, the programs of ${cluster.binaries.major}`),
      major === undefined ? "run agent setup first" : `name the folder of PostgreSQL ${major}'s programs with --pg-bin`,
    );
  }
  checkPaths(cluster);
  checkReach(cluster.user, cluster.pgdata, "the data");
  ensurePrivateDir(cluster.socketDir, cluster.user);
  await clearOrphans(cluster, before.stalePid, timeoutMs);
  const log = openLog(cluster);
  const ran = await runAs(cluster.user, program(cluster.binaries.binDir, "pg_ctl"), [
    "start",
    "--wait",
    `--timeout=${Math.ceil(timeoutMs / 1000)}`,
    `--pgdata=${cluster.pgdata}`,
    `--log=${cluster.logFile}`,
    "--silent",
  ]);
  const after = readStatus(cluster.pgdata);
  if (ran.status === 0 && after.running) return { ...after, adopted: false };
  throw startError(cluster, readLogFrom(cluster.logFile, log) || ran.output, after.running);
}

/** pg_ctl appends to the log as the server's user, so it must exist and be that user's. Returns its size. */
function openLog(cluster: Cluster): number {
  const file = openSync(cluster.logFile, "a", 0o600);
  try {
    if (cluster.user) fchownSync(file, cluster.user.uid, cluster.user.gid);
    return fstatSync(file).size;
  } finally {
    closeSync(file);
  }
}

/** What a start wrote into the log; the last 64 kB of it. */
function readLogFrom(path: string, offset: number): string {
  const file = openSync(path, "r");
  try {
    const size = fstatSync(file).size;
    const start = Math.max(offset, size - 65_536);
    const buffer = Buffer.alloc(Math.max(0, size - start));
    return buffer.toString("utf8", 0, readSync(file, buffer, 0, buffer.length, start));
  } finally {
    closeSync(file);
  }
}

export function lastLines(text: string, count: number): string {
  return text.trim().split("\n").slice(-count).map((line) => line.trim()).join(" | ");
}

/** The error for a start that failed, from what the server logged. */
export function startError(
  cluster: Pick<Cluster, "pgdata" | "port" | "logFile">,
  log: string,
  running: boolean,
): Error {
  if (/could not bind .*address already in use|is another postmaster already running on port/is.test(log)) {
    return new PortTakenError(cluster.port);
  }
  return new AgentError(
    running
      ? `Cannot start PostgreSQL in ${cluster.pgdata} in time: it is still starting; its log ends: ${lastLines(log, 8)}`
      : `Cannot start PostgreSQL in ${cluster.pgdata}: its log ends: ${lastLines(log, 8)}`,
    running ? "wait until its recovery is done and try again" : `read ${cluster.logFile}`,
  );
}

async function waitReady(cluster: Cluster, timeoutMs: number): Promise<PidFile> {
  let last = readStatus(cluster.pgdata);
  await until(timeoutMs, () => {
    last = readStatus(cluster.pgdata);
    return !last.running || last.status === "ready" || last.status === "standby";
  });
  if (last.running && (last.status === "ready" || last.status === "standby")) return last;
  throw new AgentError(
    `Cannot use PostgreSQL in ${cluster.pgdata}: it ` +
      (last.running ? `is ${last.status || "starting"}` : "has ended"),
    `try again, or read ${cluster.logFile}`,
  );
}

/** Waits for orphans of a killed postmaster, and moves aside a postmaster.pid whose id another program has now. */
async function clearOrphans(cluster: Cluster, stalePid: number | null, timeoutMs: number): Promise<void> {
  if (!await until(timeoutMs, () => processesIn(cluster.pgdata).length === 0)) {
    throw new AgentError(
      `Cannot start PostgreSQL in ${cluster.pgdata}: processes of its last run are left: ` +
        processesIn(cluster.pgdata).join(", "),
      "end them (kill, not kill -9) and try again",
    );
  }
  // A dead process id PostgreSQL sorts out itself, with a check of its shared memory. One that was given anew, or that
  // is a zombie because nothing reaps it, PostgreSQL takes for a running server: in both of its lock files.
  if (stalePid !== null && isAlive(stalePid)) moveAside(join(cluster.pgdata, "postmaster.pid"));
  const socketLock = join(cluster.socketDir, `.s.PGSQL.${cluster.port}.lock`);
  const holder = existsSync(socketLock) ? Number.parseInt(readFileSync(socketLock, "utf8"), 10) : NaN;
  if (Number.isInteger(holder) && isAlive(holder) && !isPostgres(holder)) moveAside(socketLock);
}

function moveAside(file: string): void {
  if (existsSync(file)) renameSync(file, `${file}.stale`);
}

/** Stops the server: fast, then immediate (which loses nothing but needs recovery at the next start). */
export async function stopCluster(cluster: Cluster, { timeoutMs = 30_000 } = {}): Promise<void> {
  for (const mode of ["fast", "immediate"]) {
    const status = readStatus(cluster.pgdata);
    if (!status.running) return;
    await runAs(cluster.user, program(cluster.binaries.binDir, "pg_ctl"), [
      "stop",
      "--wait",
      `--mode=${mode}`,
      `--timeout=${Math.ceil(timeoutMs / 1000)}`,
      `--pgdata=${cluster.pgdata}`,
      "--silent",
    ]);
    if (await until(1000, () => !isPostgres(status.pid))) return;
  }
  throw new AgentError(
    `Cannot stop PostgreSQL in ${cluster.pgdata}: it still runs after an immediate shutdown`,
    `read ${cluster.logFile}`,
  );
}

/** Resolves when the postmaster has ended, however it did; rejects only if `signal` aborts. */
export async function waitExit(pid: number, { pollMs = 200, signal }: { pollMs?: number; signal?: AbortSignal } = {}) {
  while (isPostgres(pid)) await delay(pollMs, undefined, { signal });
}

/** Where the agent itself connects: the private socket, as the superuser `postgres`. */
export function localTarget(cluster: Pick<Cluster, "socketDir" | "port">, database: string): Target {
  return { host: cluster.socketDir, port: cluster.port, user: "postgres", database };
}

async function until(timeoutMs: number, condition: () => boolean): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() >= deadline) return false;
    await delay(20);
  }
  return true;
}
