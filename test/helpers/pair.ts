// A real pair for a scenario: set up with the compiled agent as an operator would, in a temporary folder, on
// 127.0.0.1 and 127.0.0.2. All of it is stopped and removed with the scope; logs are shown if the test fails.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { Sql } from "../../agent/postgres/connect.ts";
import { readRecord } from "../../agent/role/record.ts";
import { Link } from "./link.ts";
import { executable, PairNode } from "./pair_node.ts";
import type { Scope } from "./scope.ts";
import { embeddedBinDir, freePort } from "./servers.ts";
import type { ClientTarget } from "./follower.ts";
import { waitFor } from "./wait.ts";

/** Short enough for tests, long enough for two busy cores. */
export const failover = {
  heartbeat_ms: 200,
  after_ms: 2000,
  peer_wait_ms: 4000,
  fence_timeout_ms: 1000,
  steady_ms: 300,
};

/** What PostgreSQL is spared in tests: these crash processes, not machines. */
const fastSettings = { fsync: "off", full_page_writes: "off" };

export interface PairOptions {
  version?: number;
  /** Puts data into the primary, as the application, before the pack is made. */
  load?: (app: Sql, pair: Pair) => Promise<void>;
  /** Routes what the agents say to each other through a link that can be cut. */
  link?: boolean;
  failover?: Partial<typeof failover>;
  /** Sections of agent.toml besides. */
  configure?: (node: PairNode) => Parameters<PairNode["configure"]>[0];
}

export interface Pair {
  readonly version: number;
  readonly primary: PairNode;
  readonly secondary: PairNode;
  /** Only with `link: true`. */
  readonly link: Link;
  /** Both hosts, in this order, as the application connects: host=A,B target_session_attrs=read-write. */
  readonly target: ClientTarget;
  readonly binDir: string;
  readonly keyFile: string;
}

/** The version that scenarios run on where they do not say: PG_VERSION, else the newest. */
export const defaultVersion = Number(process.env.PG_VERSION ?? 18);

/** Ports, folders and programs of a pair; nothing is set up yet. */
export async function planPair(
  scope: Scope,
  { version = defaultVersion, name = "", binDir = embeddedBinDir(version) } = {},
): Promise<Pair> {
  if (!existsSync(executable)) throw new Error(`Cannot test the pair: ${executable} is missing; run scripts/build`);
  const dir = join(scope.dir, name);
  mkdirSync(dir, { recursive: true });
  mkdirSync(join(dir, "keys"), { mode: 0o700 });
  const primary = new PairNode(scope, {
    role: "primary",
    dir,
    host: "127.0.0.1",
    port: await freePort(),
    pgPort: await freePort(),
  });
  const secondary = new PairNode(scope, {
    role: "secondary",
    dir,
    host: "127.0.0.2",
    port: await freePort(),
    pgPort: await freePort(),
  });
  const hosts = [primary, secondary].map((node) => ({ host: node.host, port: node.pgPort }));
  return {
    version,
    primary,
    secondary,
    binDir,
    keyFile: join(dir, "keys", "master.key"),
    get link(): Link {
      throw new Error("This pair has no link: make it with { link: true }");
    },
    get target(): ClientTarget {
      const password = readFileSync(join(primary.home, "conf", "app_password"), "utf8").trim();
      return { hosts, database: "app", user: "app", password };
    },
  };
}

export async function setupPrimary(pair: Pair, more: string[] = []): Promise<void> {
  const { primary, secondary, binDir, keyFile } = pair;
  await primary.agent([
    ...["setup", "primary", primary.name, secondary.name],
    ...["--pgdata", primary.pgdata, "--pg-bin", binDir, "--pg-port", String(primary.pgPort)],
    ...["--dbname", "app", "--key", keyFile, "--create-key", ...more],
  ]);
}

export async function setupSecondary(pair: Pair, more: string[] = []): Promise<void> {
  const { primary, secondary, binDir, keyFile } = pair;
  await secondary.agent([
    ...["setup", "secondary", "--pack", join(primary.home, "replication", "HAPack.zip")],
    ...["--pgdata", secondary.pgdata, "--pg-bin", binDir, "--pg-port", String(secondary.pgPort)],
    ...["--key", keyFile, ...more],
  ]);
}

/** Sets up both nodes and starts them; returns when the primary serves and the secondary stands by, in sight of each other. */
export async function makePair(scope: Scope, options: PairOptions = {}): Promise<Pair> {
  const planned = await planPair(scope, { version: options.version });
  const { primary, secondary } = planned;
  const times = { ...failover, ...options.failover };
  let pair = planned;
  let peers = { ofPrimary: {}, ofSecondary: {} };
  if (options.link) {
    const at = (node: PairNode) => ({ host: node.host, port: node.port });
    const { link, toA, toB } = await Link.open(scope, at(primary), at(secondary));
    // Not a spread copy: that would ask the getters now.
    pair = Object.create(planned, { link: { value: link } });
    peers = {
      ofPrimary: { peer: { address: `${toB.host}:${toB.port}` } },
      ofSecondary: { peer: { address: `${toA.host}:${toA.port}` } },
    };
  }
  const settingsOf = (node: PairNode) => ({
    ...{ failover: times, node: { listen: node.name } },
    ...options.configure?.(node),
  });
  await setupPrimary(pair);
  primary.configure(settingsOf(primary));
  primary.start();
  await primary.waitServing(times.peer_wait_ms + 20_000);
  await speedUp(primary.superuser);
  if (options.load) await options.load(primary.app(pair.target), pair);
  await primary.agent(["pack", "create"]);
  await setupSecondary(pair);
  if (options.link) {
    // Only now: the pack tells the secondary its real address, not that of the link.
    await primary.stop();
    primary.configure({ ...settingsOf(primary), ...peers.ofPrimary });
    primary.start();
  }
  secondary.configure({ ...settingsOf(secondary), ...peers.ofSecondary });
  secondary.start();
  await waitSteady(pair);
  return pair;
}

async function speedUp(sql: Sql): Promise<void> {
  for (const [name, value] of Object.entries(fastSettings)) await sql.unsafe(`ALTER SYSTEM SET ${name} = '${value}'`);
  await sql`SELECT pg_reload_conf()`;
}

/** The primary serves, the secondary stands by, each sees the other, and nothing is on its way. */
export async function waitSteady({ primary, secondary }: Pair, deadlineMs = 60_000): Promise<void> {
  const end = performance.now() + deadlineMs;
  const left = () => Math.max(1000, end - performance.now());
  await primary.waitStatus(
    "serving, alone writable and in sight of its peer",
    (s) => s.node.state === "serving" && s.node.writable && s.peer.reachable && s.peer.state === "standby",
    left(),
  );
  await secondary.waitStatus(
    "in standby and in sight of its peer",
    (s) => s.node.state === "standby" && !s.node.writable && s.peer.reachable && s.peer.state === "serving",
    left(),
  );
  // Who has never been level does not take over, and a secondary that has just started tells of its peer before it is.
  const record = join(secondary.home, "run", "state.json");
  await waitFor(() => readRecord(record)?.inSync === true, {
    what: "the secondary to be level with its primary",
    deadlineMs: left(),
  });
}

/** In the steady state a pair holds one slot, on the primary, and no more connections than it needs. */
export async function assertNoLeaks({ primary, secondary }: Pair): Promise<void> {
  await waitFor(async () => {
    for (const node of [primary, secondary]) {
      const slots = await node.superuser<{ name: string }[]>`SELECT slot_name AS name FROM pg_replication_slots`;
      const names = slots.map((slot) => slot.name).join(", ");
      const wanted = node === primary ? "ha_relay" : "";
      if (names !== wanted) throw new Error(`the ${node.role} has slots "${names}", not "${wanted}"`);
      const [row] = await node.superuser<{ count: number; names: string }[]>`
        SELECT count(*)::int AS count, string_agg(application_name, ', ') AS names FROM pg_stat_activity
        WHERE application_name LIKE 'hapair%' AND application_name <> 'hapair test'`;
      if (row.count > 12) throw new Error(`the ${node.role} has ${row.count} connections of its agent: ${row.names}`);
    }
    return true;
  }, { what: "no slot or connection to be left over", deadlineMs: 15_000, everyMs: 250 });
}
