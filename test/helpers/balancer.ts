// A load balancer in front of a pair, as HAProxy in TCP mode with `option httpchk`: the real one where it is on PATH, else
// one that imitates its checks (method, path, rise, fall) and its routing: sessions of a server that is down are ended.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Address } from "./link.ts";
import type { Scope } from "./scope.ts";
import { freePort } from "./servers.ts";

export interface Server {
  readonly name: string;
  readonly database: Address;
  readonly health: Address;
}

/** What is asked of each server before anything is sent to it. */
export interface Check {
  readonly method: "GET" | "OPTIONS" | "HEAD";
  readonly path: string;
}

/** HAProxy's `inter`, `rise` and `fall`. */
const everyMs = 200;
const rise = 2;
const fall = 2;

/** One front for each check, in order. `kind` says who balances. */
export async function openBalancer(
  scope: Scope,
  servers: readonly Server[],
  checks: readonly Check[],
): Promise<{ fronts: Address[]; kind: "haproxy" | "imitated" }> {
  const isThere = spawnSync("haproxy", ["-v"]).status === 0;
  if (isThere) return { fronts: await runHaproxy(scope, servers, checks), kind: "haproxy" };
  return { fronts: await Promise.all(checks.map((check) => imitate(scope, servers, check))), kind: "imitated" };
}

async function runHaproxy(scope: Scope, servers: readonly Server[], checks: readonly Check[]): Promise<Address[]> {
  const fronts: Address[] = [];
  for (const _ of checks) fronts.push({ host: "127.0.0.1", port: await freePort() });
  const text = `
defaults
  mode tcp
  timeout connect 2s
  timeout client 1m
  timeout server 1m
  timeout check 2s
${
    checks.map(({ method, path }, index) => `
listen front${index}
  bind ${fronts[index].host}:${fronts[index].port}
  option httpchk ${method} ${path}
  http-check expect status 200
  default-server inter ${everyMs}ms rise ${rise} fall ${fall} on-marked-down shutdown-sessions
${
      servers.map(({ name, database, health }) =>
        `  server ${name} ${database.host}:${database.port} check addr ${health.host} port ${health.port}`
      ).join("\n")
    }
`).join("")
  }`;
  const file = join(scope.dir, "haproxy.cfg");
  writeFileSync(file, text);
  const child = spawn("haproxy", ["-db", "-q", "-f", file], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk) => said += chunk);
  scope.account(() => `--- haproxy\n${said || "(nothing)"}`);
  scope.defer("haproxy", async () => {
    if (child.exitCode !== null) throw new Error(`haproxy ended with ${child.exitCode}: ${said}`);
    child.kill("SIGKILL");
    if (child.signalCode === null) await once(child, "exit");
  });
  return fronts;
}

async function imitate(scope: Scope, servers: readonly Server[], check: Check): Promise<Address> {
  const ends = new AbortController();
  const up = new Set<Server>();
  const sessions = new Map<Socket, Server>();
  const checking = servers.map(async (server) => {
    for (let inRow = 0, last = false; !ends.signal.aborted;) {
      const well = await answersWell(server.health, check);
      inRow = well === last ? inRow + 1 : 1;
      last = well;
      if (well && inRow >= rise) up.add(server);
      if (!well && inRow >= fall && up.delete(server)) {
        for (const [socket, to] of sessions) if (to === server) socket.destroy();
      }
      await pause(everyMs);
    }
  });
  const listener = createServer((client) => {
    const [server] = up;
    if (!server) return void client.destroy();
    const backend = connect(server.database);
    sessions.set(client, server);
    for (const [socket, other] of [[client, backend], [backend, client]]) {
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => other.destroy());
      socket.pipe(other);
    }
    client.on("close", () => sessions.delete(client));
  });
  const port = await freePort();
  await new Promise<void>((done) => listener.listen(port, "127.0.0.1", done));
  scope.defer("the balancer", async () => {
    ends.abort();
    await Promise.all(checking);
    for (const socket of sessions.keys()) socket.destroy();
    await new Promise<void>((done) => listener.close(() => done()));
  });
  return { host: "127.0.0.1", port };
}

/** Sent as HAProxy sends it: HTTP/1.0, no header at all. */
function answersWell({ host, port }: Address, { method, path }: Check): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 2000 }, () => socket.write(`${method} ${path} HTTP/1.0\r\n\r\n`));
    let answer = "";
    socket.on("data", (chunk) => answer += chunk);
    socket.on("timeout", () => socket.destroy());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => resolve(/^HTTP\/1\.[01] 200 /.test(answer)));
  });
}
