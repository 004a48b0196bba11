// Where a node that is set up has its database and its own address, as agent.toml says. Starts and changes nothing.
import type { Config } from "../config.ts";
import type { Home } from "../home.ts";
import type { Target } from "../postgres/connect.ts";
import { localTarget } from "../postgres/server.ts";
import { parseDatabaseUrl } from "./existing.ts";
import { addressFrom } from "./names.ts";

export function configuredTarget(home: Home, { postgres }: Config): Target {
  return postgres.url
    ? parseDatabaseUrl(postgres.url, postgres.dbname)
    : localTarget({ socketDir: home.runDir, port: postgres.port }, postgres.dbname);
}

/** The node's own address is its name where it listens everywhere; the peer knows it by that. */
export function ownAddress({ node }: Config): string {
  return addressFrom(node.name, node.listen);
}
