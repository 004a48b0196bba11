// `agent backup`: a copy of this node's server, primary or secondary, while it runs. Reads only: the pair, its slot, its
// generation and an open join stay as they are. Holds no private key, and never takes the place of a file.
import { join, resolve } from "node:path";
import { readConfig } from "../config.ts";
import { AgentError } from "../errors.ts";
import type { Home } from "../home.ts";
import { type CreatedPack, createPack } from "../pack/create.ts";
import { connectionError, openPool } from "../postgres/connect.ts";
import { requireKey } from "../trust/key_watch.ts";
import { agentVersion } from "../version.ts";
import { configuredTarget, ownAddress } from "./configured.ts";
import { findPair, readFallbackSettings } from "./database.ts";
import { readToml, sharedRules } from "./files.ts";
import { rateText, type Steps } from "./steps.ts";

/** Makes the backup; `file` is by default one of its own name in the home's folder for backups. */
export async function makeBackup(
  home: Home,
  options: { file?: string },
  steps: Steps,
): Promise<CreatedPack & { file: string }> {
  const config = readConfig(home.configFile);
  const key = requireKey(home);
  const { node, peer, postgres } = config;
  const file = options.file === undefined
    ? join(home.backupDir, backupName(node.name, new Date()))
    : resolve(options.file);
  const here = { name: node.name, address: ownAddress(config) };
  const [primary, secondary] = node.role === "primary" ? [here, peer] : [peer, here];
  const target = configuredTarget(home, config);
  const sql = openPool(target, { purpose: "backup" });
  const began = performance.now();
  try {
    const pair = await findPair(sql);
    if (!pair) {
      throw new AgentError(
        "Cannot make a backup: the database does not belong to a pair",
        "run agent setup here first",
      );
    }
    const settings = await readFallbackSettings(sql);
    const made = await steps.run(
      "backup",
      () =>
        createPack({
          file,
          keepPresent: true,
          target,
          sql,
          key,
          facts: {
            agent_version: agentVersion,
            pair_id: pair.pairId,
            generation: pair.generation,
            primary,
            secondary,
            port: postgres.port,
            backup: { node: node.name, role: node.role },
          },
          pair: { rules: sharedRules(readToml(home.configFile)), settings },
          onProgress: steps.progress("backup"),
        }),
      ({ fileBytes }) => rateText(fileBytes, performance.now() - began),
    );
    return { ...made, file };
  } catch (error) {
    throw connectionError(error, target);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** `hapair-db1.example.com-20261125T221624123Z.zip` */
export function backupName(node: string, at: Date): string {
  return `hapair-${node.replace(/[^A-Za-z0-9.-]/g, "_")}-${at.toISOString().replace(/[-:.]/g, "")}.zip`;
}
