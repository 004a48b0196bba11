// A server as Debian's pg_createcluster lays it out and somebody else than the agent runs it: configuration in a folder of
// its own outside of PGDATA, with conf.d; started and stopped by a command. Made from the embedded programs.
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { checkBinaries } from "../../agent/postgres/binaries.ts";
import { openPool, type Sql, type Target } from "../../agent/postgres/connect.ts";
import { chooseUser, chownTree, ensurePrivateDir } from "../../agent/postgres/os_user.ts";
import { initCluster } from "../../agent/postgres/server.ts";
import { readStatus } from "../../agent/postgres/postmaster.ts";
import { killTree } from "./processes.ts";
import type { Scope } from "./scope.ts";
import { embeddedBinDir, freePort } from "./servers.ts";

export interface DebianServer {
  readonly pgdata: string;
  readonly etc: string;
  readonly port: number;
  readonly binDir: string;
  readonly startCommand: string;
  readonly stopCommand: string;
  /** For --database: over the socket, as superuser. */
  url(database: string): string;
  target(database: string): Target;
  pool(database: string): Sql;
  start(): void;
  stop(): void;
  readonly pid: number | undefined;
}

/** Settings that a server of a pair needs; leave them out to have one that lacks them. */
export const pairSettings = { wal_level: "logical", track_commit_timestamp: "on" };

export async function makeDebianServer(
  scope: Scope,
  { version, name, listen, settings = pairSettings }: {
    version: number;
    name: string;
    listen: string;
    settings?: Record<string, string>;
  },
): Promise<DebianServer> {
  const binDir = embeddedBinDir(version);
  const folder = join(scope.dir, name);
  const [etc, lib, run, log] = ["etc", "lib", "run", "log"].map((part) => join(folder, part));
  const pgdata = join(lib, "main");
  const user = chooseUser({ pgdata: join(scope.dir, "none") });
  const port = await freePort();
  mkdirSync(lib, { recursive: true });
  for (const each of [etc, run, log]) {
    ensurePrivateDir(each, user);
    chmodSync(each, 0o755);
  }
  await initCluster({
    binaries: checkBinaries(binDir),
    pgdata,
    port,
    listen,
    socketDir: run,
    logFile: join(log, "postgresql.log"),
    user,
  }, { sync: false });
  for (const file of ["postgresql.conf", "hapair.conf", "pg_hba.conf"]) rmSync(join(pgdata, file));
  renameSync(join(pgdata, "pg_ident.conf"), join(etc, "pg_ident.conf"));
  writeFileSync(
    join(etc, "pg_hba.conf"),
    "local all all trust\nlocal replication all trust\nhost all all all scram-sha-256\n",
  );
  const quoted = (values: Record<string, string | number>) =>
    Object.entries(values).map(([key, value]) => `${key} = '${value}'\n`).join("");
  const main = quoted({
    data_directory: pgdata,
    hba_file: join(etc, "pg_hba.conf"),
    ident_file: join(etc, "pg_ident.conf"),
    external_pid_file: join(run, "main.pid"),
    unix_socket_directories: run,
    port,
    listen_addresses: listen,
    fsync: "off",
    full_page_writes: "off",
    shared_buffers: "16MB",
  });
  writeFileSync(join(etc, "postgresql.conf"), `${main}include_dir 'conf.d'\n`);
  mkdirSync(join(etc, "conf.d"));
  writeFileSync(join(etc, "conf.d", "pair.conf"), quoted(settings));
  chownTree(etc, user);
  // As pg_ctlcluster does: as the server's own user, whoever calls it.
  const ctl = join(folder, "ctl.mjs");
  const options = { cwd: "/", stdio: "inherit", ...(user ? { uid: user.uid, gid: user.gid } : {}) };
  writeFileSync(
    ctl,
    `import { spawnSync } from "node:child_process";
const how = process.argv[2] === "start"
  ? ["start", "-l", ${JSON.stringify(join(log, "postgresql.log"))}, "-o", ${
      JSON.stringify(`-c config_file=${join(etc, "postgresql.conf")}`)
    }]
  : ["stop", "-m", "fast"];
const args = [...how, "-s", "-w", "-D", ${JSON.stringify(pgdata)}];
process.exit(spawnSync(${JSON.stringify(join(binDir, "pg_ctl"))}, args, ${JSON.stringify(options)}).status ?? 1);
`,
  );
  const command = (action: string) => `'${process.execPath}' '${ctl}' ${action}`;
  const act = (action: string) => {
    const ran = spawnSync("/bin/sh", ["-c", command(action)], { encoding: "utf8" });
    if (ran.status !== 0) throw new Error(`Cannot ${action} ${name}: ${ran.stdout}${ran.stderr}`);
  };
  const target = (database: string): Target => ({ host: run, port, user: "postgres", database });
  const server: DebianServer = {
    pgdata,
    etc,
    port,
    binDir,
    startCommand: command("start"),
    stopCommand: command("stop"),
    url: (database) => `postgres://postgres@localhost:${port}/${database}?host=${encodeURIComponent(run)}`,
    target,
    pool: (database) => {
      const sql = openPool(target(database), { purpose: "test", max: 2 });
      scope.defer(`connections to ${name}`, () => sql.end({ timeout: 1 }));
      return sql;
    },
    start: () => act("start"),
    stop: () => act("stop"),
    get pid() {
      const status = readStatus(pgdata);
      return status.running ? status.pid : undefined;
    },
  };
  scope.defer(name, () => {
    const { pid } = server;
    if (pid !== undefined) killTree(pid);
  });
  return server;
}
