// `setup primary`: from an empty folder or a server with data to a primary whose pack waits for the secondary.
// Run again it finds what is there and makes a new pack. The application keeps writing all the while.
import { existsSync } from "node:fs";
import type { Home } from "../home.ts";
import { refuseInData } from "../pack/outside.ts";
import { refuseBadPolicies } from "../policy_checks.ts";
import { readTables } from "../postgres/tables.ts";
import { makeIdentity, readIdentity, writeIdentity } from "../trust/certificates.ts";
import { ensureObjects, ensureSchema } from "./database.ts";
import { composeConfig, makeHome, readPresent, readToml, sharedRules, writeConfig } from "./files.ts";
import { finishAlone } from "../trust/renewal.ts";
import { chooseKey, type KeyOptions, nameKey } from "./key.ts";
import { listenAddress, type NodeName, parseNames } from "./names.ts";
import { checkReplaceable, makeNewPack } from "./new_pack.ts";
import { openServer, type ServerOptions, withPresent } from "./server.ts";
import type { Steps } from "./steps.ts";

export interface PrimaryOptions extends ServerOptions, KeyOptions {
  /** A TOML file that is merged into agent.toml. */
  readonly config?: string;
  /** Cut a secondary off that has joined already. */
  readonly replace?: boolean;
}

export interface PrimarySetup {
  readonly primary: string;
  readonly secondary: string;
  readonly pack: string;
  readonly pack_bytes: number;
  readonly pair_id: string;
  readonly generation: string;
  readonly end_lsn: string;
  readonly tables: number;
}

export async function setupPrimary(
  home: Home,
  names: { primary: string; secondary: string },
  options: PrimaryOptions,
  steps: Steps,
): Promise<PrimarySetup> {
  const { primary, secondary } = parseNames(names.primary, names.secondary);
  const added = options.config === undefined ? null : { document: readToml(options.config), origin: options.config };
  const present = readPresent(home, "primary");
  const compose = (postgres: Record<string, unknown>) =>
    composeConfig(
      {
        node: { name: primary.name, role: "primary", listen: listenAddress(primary) },
        peer: { name: secondary.name, address: secondary.address },
        postgres,
      },
      added,
      present,
    );
  // Refuses a malformed file, and what contradicts itself in it, before anything is made.
  const { config } = compose({ pgdata: "-" });
  const origin = added?.origin ?? home.configFile;
  refuseBadPolicies(config, [], origin);
  checkReplaceable(home, secondary.name, options.replace ?? false);
  const key = chooseKey(home, options);
  const server = await openServer(home, primary, withPresent(options, present), steps);
  try {
    const { sql, target } = server;
    refuseBadPolicies(config, await readTables(sql), origin);
    await refuseInData(sql, key, home.packFile);
    makeHome(home);
    await steps.run("schema ha", () => ensureSchema(sql, primary.name), (n) => n.length ? "made" : "found");
    const objects = await steps.run(
      "tables and sequences",
      () => ensureObjects(sql, config),
      ({ tables, sequences }) => `${tables.length} tables and ${sequences.length} sequences changed`,
    );
    nameKey(home, key);
    const { cert } = await steps.run("certificate", () => ensureIdentity(home, primary));
    const { document } = compose(server.section);
    writeConfig(home, document);
    const pack = await makeNewPack({
      home,
      target,
      sql,
      key,
      primary,
      secondary,
      port: server.port,
      certificate: cert,
      rules: sharedRules(document),
      steps,
    });
    return {
      primary: primary.name,
      secondary: secondary.name,
      pack: pack.file,
      pack_bytes: pack.fileBytes,
      pair_id: pack.manifest.pair_id,
      generation: pack.manifest.generation,
      end_lsn: pack.manifest.postgres.end_lsn,
      tables: objects.tables.length,
    };
  } finally {
    await server.release();
  }
}

/** This node's certificate: the one that is there, or a new one. */
export async function ensureIdentity(home: Home, node: NodeName) {
  finishAlone(home);
  if (existsSync(home.nodeCertificate)) return readIdentity(home.nodeCertificate, home.nodeKey);
  const identity = await makeIdentity(node.host);
  writeIdentity(home.nodeCertificate, home.nodeKey, identity);
  return identity;
}
