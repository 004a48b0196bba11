// Where a node that is set up has its database and its own address, as agent.toml says. Starts and changes nothing.
import type { Config } from "../config.ts";
import type { Home } from "../home.ts";
import type { Target } from "../postgres/connect.ts";
import { localTarget } from "../postgres/server.ts";
import { parseDatabaseUrl } from "./existing.ts";

export function configuredTarget(home: Home, { postgres }: Config): Target {
  return postgres.url
    ? parseDatabaseUrl(postgres.url, postgres.dbname)
    : localTarget({ socketDir: home.runDir, port: postgres.port }, postgres.dbname);
}

/** The node's own address is its name where it listens everywhere; the peer knows it by that. */
export function ownAddress({ node }: Config): string {
  const host = node.name.includes(":") || !node.listen.startsWith("0.0.0.0:") ? null : node.name;
  return host === null ? node.listen : `${host}:${node.listen.split(":").at(-1)}`;
}
