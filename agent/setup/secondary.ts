// `setup secondary --pack`: everything that can be checked is checked first, then the pack becomes this node's cluster.
// What was in PGDATA is kept aside, never deleted; clients get in only when the agent runs.
import { rmSync } from "node:fs";
import { resolve } from "node:path";
import { parseLsn } from "../change/lsn.ts";
import { removeDurably } from "../durable_file.ts";
import { AgentError, RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { checkTarget } from "../pack/extract.ts";
import type { PackManifest } from "../pack/manifest.ts";
import { type OpenPack, openPack } from "../pack/open.ts";
import { prepareSeed, recoverSeed } from "../pack/seed.ts";
import { checkReach } from "../postgres/os_user.ts";
import { readStatus } from "../postgres/postmaster.ts";
import { rebuildStaleIndexes } from "../postgres/reindex.ts";
import { type Cluster, configure, localTarget, stopCluster } from "../postgres/server.ts";
import { writeIdentity, writeWhole } from "../trust/certificates.ts";
import { announcedPeerPath, joinIdentityPaths, peerCertificatePath } from "../trust/join.ts";
import { clusterAt, programsFor } from "./cluster.ts";
import { isOfMachine, judgeCollations, sortCollations, tryCollations } from "./collations.ts";
import { becomeSecondary } from "./database.ts";
import { composeConfig, makeHome, parseToml, readPresent, writeConfig } from "./files.ts";
import { chooseKey, type KeyOptions, nameKey } from "./key.ts";
import { checkPort, listenAddress, named, type NodeName } from "./names.ts";
import { existingSection } from "./existing.ts";
import { handOver, type OtherServer, otherServer, stopOther } from "./other_server.ts";
import { ensureIdentity } from "./primary.ts";
import type { Steps } from "./steps.ts";

export interface SecondaryOptions extends KeyOptions {
  readonly pack: string;
  /** The certificate to pin for the primary instead of the pack's: it may be newer. */
  readonly primaryCertificate?: string;
  /** Leave what agent.toml says of this node, its peer and its server as it is. */
  readonly keepSections?: boolean;
  /** Where PostgreSQL listens, if not at the address that the pack names. */
  readonly listen?: string;
  readonly pgdata: string;
  readonly pgBin?: string;
  readonly pgPort?: number;
  readonly osUser?: string;
  readonly replace?: boolean;
  /** The URL of the server that runs the data afterwards, if that is somebody else's: systemd's, pg_ctlcluster's. */
  readonly database?: string;
  readonly startCommand?: string;
  readonly stopCommand?: string;
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
    refuseOtherPair(home, present, manifest);
    const pgdata = resolve(options.pgdata);
    const node = { ...named(manifest.secondary.address), name: manifest.secondary.name };
    const binaries = programsFor(manifest.postgres.major, options.pgBin, "the pack");
    const port = options.pgPort ?? manifest.postgres.port;
    const listen = options.listen ?? node.host;
    const cluster = clusterAt(home, { pgdata, binaries, port, listen, osUser: options.osUser });
    const other = otherServer(home, options, manifest.postgres.dbname);
    await check(cluster, options.replace ?? false, other);
    const document = compose(pack, cluster, node, other, present, options.keepSections ?? false);
    const versioned = (manifest.collations ?? []).filter(isOfMachine);
    if (versioned.length > 0) {
      await steps.run(
        "collations compared",
        async () => judgeCollations(sortCollations(versioned, await tryCollations(binaries, cluster.user, versioned))),
        (changed) => changed === null ? "the same as the primary's" : `indexes will be rebuilt: ${changed}`,
      );
    }
    makeHome(home);
    const { files, aside } = await steps.run(
      "pack verified and extracted",
      () =>
        pack.extract(pgdata, {
          user: cluster.user,
          replace: options.replace ?? false,
          onProgress: steps.progress("pack verified and extracted"),
          prepare: async (folder) => {
            await prepareSeed(folder, cluster, manifest, pack.pair.settings);
            // Only now: what is in the pack is known to be whole.
            if (other) await stopOther(other, cluster);
          },
        }),
      (result) => `${result.files} files` + (result.aside ? `; the former data is in ${result.aside}` : ""),
    );
    try {
      await makeSecondary(cluster, pack, node, steps);
      if (other) await handOver(other, cluster, steps);
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
      writeWhole(peerCertificatePath(home), options.primaryCertificate ?? pack.pair.primary_certificate, 0o644);
      writeConfig(home, document);
      // What the node was before, it was with other data.
      removeDurably(home.stateFile);
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

/** A home that is set up already goes on with its own pair only. */
function refuseOtherPair(home: Home, present: Record<string, unknown> | null, manifest: PackManifest): void {
  const nameIn = (section: string) => (present?.[section] as { name?: unknown } | undefined)?.name;
  for (const [section, name] of [["node", manifest.secondary.name], ["peer", manifest.primary.name]]) {
    const here = nameIn(section);
    if (here === undefined || here === name) continue;
    throw new RefusedError(
      `Cannot use this pack: it is for another pair (${manifest.primary.name} and ${manifest.secondary.name}); ` +
        `[${section}] of ${home.configFile} is ${JSON.stringify(here)}`,
      "take the pack of this node's own primary, or name another folder with --home",
    );
  }
}

type Running = Pick<SecondaryOptions, "database" | "stopCommand">;

export function refuseRunning(pgdata: string, { database, stopCommand }: Running): void {
  if (!readStatus(pgdata).running || stopCommand !== undefined) return;
  throw new RefusedError(
    `Cannot use ${pgdata}: a PostgreSQL server runs in it`,
    database === undefined ? "stop the agent or the server there first" : "stop it first, or add --stop-command",
  );
}

async function check(cluster: Cluster, replace: boolean, other: OtherServer | null): Promise<void> {
  refuseRunning(cluster.pgdata, other ? { database: other.url, stopCommand: other.stopCommand } : {});
  checkTarget(cluster.pgdata, replace);
  checkReach(cluster.user, cluster.binaries.binDir, "the programs of PostgreSQL");
  if (other === null) await checkPort(cluster.listen, cluster.port);
}

function compose(
  pack: OpenPack,
  cluster: Cluster,
  node: NodeName,
  other: OtherServer | null,
  present: Record<string, unknown> | null,
  keepSections: boolean,
) {
  const { manifest } = pack;
  const kept = keepSections && present !== null;
  const { document } = composeConfig(
    kept ? { node: present.node, peer: present.peer, postgres: present.postgres } : {
      node: { name: node.name, role: "secondary", listen: listenAddress(node) },
      peer: manifest.primary,
      postgres: other ? existingSection(other.url, other.target, other) : {
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
    // Before anything looks a row up: by an index in another order it may not be found.
    await steps.run(
      "indexes",
      () => rebuildStaleIndexes(target),
      ({ indexes, versions }) => versions.length === 0 ? "fit" : `${indexes} rebuilt: ${versions.join(", ")}`,
    );
    await steps.run("made the secondary", () => becomeSecondary(target, { node: node.name, generation, appliedLsn }));
  } finally {
    await stopCluster(cluster);
  }
  await configure(cluster);
}
