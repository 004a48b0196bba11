// The cluster that a node runs, as agent.toml describes it, and which programs fit it.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { type Binaries, findBinaries } from "../postgres/binaries.ts";
import { chooseUser } from "../postgres/os_user.ts";
import type { Cluster } from "../postgres/server.ts";

export interface ClusterOptions {
  readonly pgdata: string;
  readonly binaries: Binaries;
  readonly port: number;
  readonly listen: string;
  readonly osUser?: string;
}

/** The cluster below a home. */
export function clusterAt(home: Home, { pgdata, binaries, port, listen, osUser }: ClusterOptions): Cluster {
  return {
    binaries,
    pgdata,
    port,
    listen,
    socketDir: home.runDir,
    logFile: home.postgresLog,
    user: chooseUser({ pgdata, configured: osUser }),
  };
}

/** The programs of exactly that major version; any supported one where `major` is undefined. */
export function programsFor(major: number | undefined, pgBin: string | undefined, what: string): Binaries {
  const debian = major === undefined ? "" : `/usr/lib/postgresql/${major}/bin`;
  const binaries = findBinaries(pgBin ?? (debian && existsSync(join(debian, "postgres")) ? debian : undefined));
  if (major === undefined || binaries.major === major) return binaries;
  throw new RefusedError(
    `Cannot use PostgreSQL ${binaries.version} in ${binaries.binDir}: ${what} is of version ${major}`,
    `install PostgreSQL ${major}, or name the folder of its programs with --pg-bin`,
  );
}
