// `agent restore`: a backup (or a pack) becomes a server of its own in an empty folder, of no pair. All of it is verified,
// recovered and freed of the former pair beside that folder, which gets its name at the very end: what fails leaves nothing.
// Never touches a home: no agent.toml, no certificate, no server of a node.
import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { checkTarget } from "../pack/extract.ts";
import { type OpenCopy, openCopy } from "../pack/open.ts";
import { prepareSeed, recoverSeed } from "../pack/seed.ts";
import { checkReach, chooseUser } from "../postgres/os_user.ts";
import { readStatus } from "../postgres/postmaster.ts";
import { rebuildStaleIndexes } from "../postgres/reindex.ts";
import { type Cluster, configure, localTarget, stopCluster } from "../postgres/server.ts";
import { programsFor } from "./cluster.ts";
import { judgeCollations, sortCollations, tryCollations } from "./collations.ts";
import { chooseKey, type KeyOptions } from "./key.ts";
import { leavePair, type LeftPair } from "./leave_pair.ts";
import type { Steps } from "./steps.ts";

export interface RestoreOptions extends KeyOptions {
  readonly file: string;
  readonly pgdata: string;
  readonly pgBin?: string;
  readonly pgPort?: number;
  readonly osUser?: string;
}

export interface Restored {
  readonly pgdata: string;
  readonly dbname: string;
  readonly port: number;
  /** Folder of the programs that fit it. */
  readonly bin_dir: string;
  /** Whom the files belong to, if the agent runs as root. */
  readonly os_user: string | null;
  /** Where the data are as of. */
  readonly end_lsn: string;
  readonly taken_at: string;
  readonly files: number;
  readonly conflicts_kept_in: string | null;
  readonly prepared_rolled_back: readonly string[];
  readonly subscriptions_disabled: readonly string[];
}

/** What a unix socket's path has room for besides the folder. */
const mostFolderBytes = 103 - "/.s.PGSQL.65535".length;

export async function restoreBackup(home: Home, options: RestoreOptions, steps: Steps): Promise<Restored> {
  const key = chooseKey(home, options);
  const pgdata = resolve(options.pgdata);
  const copy = await openCopy(resolve(options.file), key);
  try {
    const { manifest } = copy;
    const { postgres } = manifest;
    const binaries = programsFor(postgres.major, options.pgBin, "the backup");
    const final: Cluster = {
      binaries,
      pgdata,
      port: options.pgPort ?? postgres.port,
      listen: "localhost",
      socketDir: pgdata, // private to the server's user, as the agent's lines in pg_hba.conf need it
      logFile: `${pgdata}.restore.log`,
      user: chooseUser({ pgdata, configured: options.osUser }),
    };
    check(final);
    const versioned = manifest.collations ?? [];
    if (versioned.length > 0) {
      await steps.run(
        "collations compared",
        async () => judgeCollations(sortCollations(versioned, await tryCollations(binaries, final.user, versioned))),
        (changed) => changed === null ? "the same as in the backup" : `indexes will be rebuilt: ${changed}`,
      );
    }
    let left: LeftPair | undefined;
    const { files } = await steps.run(
      "restored",
      () =>
        copy.extract(pgdata, {
          user: final.user,
          replace: false,
          onProgress: steps.progress("restored"),
          prepare: async (folder) => {
            left = await recover(folder, final, copy, steps);
          },
        }),
      (result) => `${result.files} files`,
    );
    rmSync(final.logFile, { force: true });
    return {
      pgdata,
      dbname: postgres.dbname,
      port: final.port,
      bin_dir: binaries.binDir,
      os_user: final.user?.name ?? null,
      end_lsn: postgres.end_lsn,
      taken_at: manifest.created_at,
      files,
      conflicts_kept_in: left!.conflicts,
      prepared_rolled_back: left!.rolledBack,
      subscriptions_disabled: left!.subscriptions,
    };
  } finally {
    await copy.close();
  }
}

function check({ pgdata, user, binaries }: Cluster): void {
  if (new TextEncoder().encode(pgdata).length > mostFolderBytes) {
    throw new UsageError(
      `Cannot use ${pgdata}: its path is longer than ${mostFolderBytes} bytes, and the server's socket lies in it`,
      "name a folder with a shorter path",
    );
  }
  if (readStatus(pgdata).running) {
    throw new RefusedError(`Cannot use ${pgdata}: a PostgreSQL server runs in it`, "name an empty folder");
  }
  checkTarget(pgdata, false);
  checkReach(user, binaries.binDir, "the programs of PostgreSQL");
}

/** Recovers the copy in `folder` to its end, frees it of its pair, and stops it, configured for its final place. */
async function recover(
  folder: string,
  final: Cluster,
  { manifest, shared }: OpenCopy,
  steps: Steps,
): Promise<LeftPair> {
  const socketDir = mkdtempSync(join(tmpdir(), "hapair-restore-"));
  if (final.user) chownSync(socketDir, final.user.uid, final.user.gid);
  // The socket's final place does not exist yet.
  const cluster = { ...final, pgdata: folder, socketDir };
  try {
    await prepareSeed(folder, cluster, manifest, shared.settings);
    await steps.run("recovered", () => recoverSeed(cluster), () => `to ${manifest.postgres.end_lsn}`);
    const target = localTarget(cluster, manifest.postgres.dbname);
    // Before anything looks a row up: by an index in another order it may not be found.
    await steps.run(
      "indexes",
      () => rebuildStaleIndexes(target),
      ({ indexes, versions }) => versions.length === 0 ? "fit" : `${indexes} rebuilt: ${versions.join(", ")}`,
    );
    const left = await steps.run("freed of its pair", () => leavePair(target));
    await stopCluster(cluster);
    await configure({ ...final, pgdata: folder });
    return left;
  } finally {
    await stopCluster(cluster);
    rmSync(socketDir, { recursive: true, force: true });
  }
}
