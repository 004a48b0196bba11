// `setup secondary --pack`: everything that can be checked is checked first, then the pack becomes this node's cluster.
// What was in PGDATA is kept aside, never deleted; clients get in only when the agent runs.
import { rmSync } from "node:fs";
import { resolve } from "node:path";
import { parseLsn } from "../change/lsn.ts";
import { AgentError, RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { checkTarget } from "../pack/extract.ts";
import { type OpenPack, openPack } from "../pack/open.ts";
import { prepareSeed, recoverSeed } from "../pack/seed.ts";
import { checkReach } from "../postgres/os_user.ts";
import { readStatus } from "../postgres/postmaster.ts";
import { type Cluster, configure, localTarget, stopCluster } from "../postgres/server.ts";
import { writeIdentity, writeWhole } from "../trust/certificates.ts";
import { announcedPeerPath, joinIdentityPaths, peerCertificatePath } from "../trust/join.ts";
import { clusterAt, programsFor } from "./cluster.ts";
import { becomeSecondary } from "./database.ts";
import { composeConfig, makeHome, parseToml, readPresent, writeConfig } from "./files.ts";
import { chooseKey, type KeyOptions, nameKey } from "./key.ts";
import { checkPort, listenAddress, named, type NodeName } from "./names.ts";
import { ensureIdentity } from "./primary.ts";
import type { Steps } from "./steps.ts";

export interface SecondaryOptions extends KeyOptions {
  readonly pack: string;
  readonly pgdata: string;
  readonly pgBin?: string;
  readonly pgPort?: number;
  readonly osUser?: string;
  readonly replace?: boolean;
}

export interface SecondarySetup {
  readonly primary: string;
  readonly secondary: string;
  readonly pair_id: string;
  readonly generation: string;
  readonly end_lsn: string;
  readonly files: number;
  /** Where the former content of PGDATA is now. */
  readonly kept_aside: string | null;
}

export async function setupSecondary(home: Home, options: SecondaryOptions, steps: Steps): Promise<SecondarySetup> {
  const key = chooseKey(home, options);
  const present = readPresent(home, "secondary");
  const pack = await openPack(resolve(options.pack), key);
  try {
    const { manifest } = pack;
    const pgdata = resolve(options.pgdata);
    const node = { ...named(manifest.secondary.address), name: manifest.secondary.name };
    const binaries = programsFor(manifest.postgres.major, options.pgBin, "the pack");
    const port = options.pgPort ?? manifest.postgres.port;
    const cluster = clusterAt(home, { pgdata, binaries, port, listen: node.host, osUser: options.osUser });
    await check(cluster, options.replace ?? false);
    const document = compose(pack, cluster, node, present);
    makeHome(home);
    const { files, aside } = await steps.run(
      "pack verified and extracted",
      () =>
        pack.extract(pgdata, {
          user: cluster.user,
          replace: options.replace ?? false,
          onProgress: steps.progress("pack verified and extracted"),
          prepare: (folder) => prepareSeed(folder, cluster, manifest, pack.pair.settings),
        }),
      (result) => `${result.files} files` + (result.aside ? `; the former data is in ${result.aside}` : ""),
    );
    try {
      await makeSecondary(cluster, pack, node, steps);
    } catch (error) {
      if (aside === null) throw error;
      const known = error instanceof AgentError ? error : new AgentError(String(error), "try again", { cause: error });
      throw new AgentError(known.message, `${known.remedy}; the former data is in ${aside}`, { cause: error });
    }
    await steps.run("certificates and agent.toml", async () => {
      nameKey(home, key);
      await ensureIdentity(home, node);
      const join = joinIdentityPaths(home);
      writeIdentity(join.cert, join.key, pack.pair.join);
      rmSync(announcedPeerPath(home), { force: true });
      writeWhole(peerCertificatePath(home), pack.pair.primary_certificate, 0o644);
      writeConfig(home, document);
    });
    return {
      primary: manifest.primary.name,
      secondary: manifest.secondary.name,
      pair_id: manifest.pair_id,
      generation: manifest.generation,
      end_lsn: manifest.postgres.end_lsn,
      files,
      kept_aside: aside,
    };
  } finally {
    await pack.close();
  }
}

async function check(cluster: Cluster, replace: boolean): Promise<void> {
  if (readStatus(cluster.pgdata).running) {
    throw new RefusedError(
      `Cannot use ${cluster.pgdata}: a PostgreSQL server runs in it`,
      "stop the agent or the server there first",
    );
  }
  checkTarget(cluster.pgdata, replace);
  checkReach(cluster.user, cluster.binaries.binDir, "the programs of PostgreSQL");
  await checkPort(cluster.listen, cluster.port);
}

function compose(pack: OpenPack, cluster: Cluster, node: NodeName, present: Record<string, unknown> | null) {
  const { manifest } = pack;
  const { document } = composeConfig(
    {
      node: { name: node.name, role: "secondary", listen: listenAddress(node) },
      peer: manifest.primary,
      postgres: {
        pgdata: cluster.pgdata,
        bin_dir: cluster.binaries.binDir,
        port: cluster.port,
        listen: cluster.listen,
        dbname: manifest.postgres.dbname,
        ...(cluster.user ? { os_user: cluster.user.name } : {}),
      },
    },
    { document: parseToml(pack.pair.rules, "the pack's rules"), origin: "the pack's rules" },
    present,
  );
  return document;
}

async function makeSecondary(cluster: Cluster, pack: OpenPack, node: NodeName, steps: Steps): Promise<void> {
  const { generation, postgres } = pack.manifest;
  try {
    await steps.run("recovered", () => recoverSeed(cluster), () => `to ${postgres.end_lsn}`);
    const target = localTarget(cluster, postgres.dbname);
    const appliedLsn = parseLsn(postgres.end_lsn);
    await steps.run("made the secondary", () => becomeSecondary(target, { node: node.name, generation, appliedLsn }));
  } finally {
    await stopCluster(cluster);
  }
  await configure(cluster);
}
