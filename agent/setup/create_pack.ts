// `pack create`: a new pack from a primary that is set up, as its agent.toml describes it. Starts no server.
import { type Config, readConfig } from "../config.ts";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { connectionError, openPool } from "../postgres/connect.ts";
import { requireKey } from "../trust/key_watch.ts";
import { packCertificate } from "../trust/renewal.ts";
import { readToml, sharedRules } from "./files.ts";
import { named, type NodeName } from "./names.ts";
import { checkReplaceable, makeNewPack } from "./new_pack.ts";
import { configuredTarget, ownAddress } from "./configured.ts";
import type { Steps } from "./steps.ts";

export interface NewPackOptions {
  readonly replace?: boolean;
  /** Who will set the secondary up from it. */
  readonly askedBy?: "peer" | "operator";
}

export async function createNewPack(home: Home, options: NewPackOptions, steps: Steps) {
  const { replace = false, askedBy = "operator" } = options;
  const config = readConfig(home.configFile);
  if (config.node.role !== "primary") {
    throw new RefusedError("Cannot make a pack: this is the secondary", "run it on the primary");
  }
  checkReplaceable(home, config.peer.name, replace);
  const key = requireKey(home);
  const certificate = packCertificate(home, askedBy);
  const { postgres, peer } = config;
  const target = configuredTarget(home, config);
  const sql = openPool(target, { purpose: "pack" });
  try {
    return await makeNewPack({
      home,
      target,
      sql,
      key,
      primary: ownName(config),
      secondary: { ...named(peer.address), name: peer.name },
      port: postgres.port,
      certificate,
      rules: sharedRules(readToml(home.configFile)),
      steps,
    });
  } catch (error) {
    throw connectionError(error, target);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** This node as its peer knows it. */
export function ownName(config: Config): NodeName {
  return { ...named(ownAddress(config)), name: config.node.name };
}
