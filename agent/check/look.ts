// Gathers a node's view: its machine, its database, the way to the other node. Looks only, all at once, each part with
// a deadline of its own.
import { splitAddress } from "../config.ts";
import type { Config } from "../config.ts";
import type { Home } from "../home.ts";
import type { Target } from "../postgres/connect.ts";
import type { View } from "./facts.ts";
import { probePort, probePostgres } from "./probe.ts";
import { readDatabase } from "./read_database.ts";
import { readHost } from "./read_host.ts";

export interface LookOptions {
  readonly home: Home;
  readonly config: Config;
  readonly target: Target;
  readonly agentRuns: boolean;
  /** Where the other node's PostgreSQL is tried, at the host of [peer] address and nowhere else. */
  readonly peerPostgresPort: number;
}

export async function lookAround(options: LookOptions): Promise<View> {
  const { home, config, target, agentRuns, peerPostgresPort } = options;
  const { node, peer } = config;
  const there = splitAddress(peer.address);
  const [host, database, agentPort, databasePort] = await Promise.all([
    readHost(home, config),
    readDatabase(target),
    probePort(there.host, there.port),
    probePostgres(there.host, peerPostgresPort),
  ]);
  return {
    name: node.name,
    role: node.role,
    peerName: peer.name,
    peerRole: node.role === "primary" ? "secondary" : "primary",
    agentRuns,
    postgresPort: target.port,
    clockMs: Date.now(),
    host,
    database,
    agentPort,
    databasePort,
  };
}
