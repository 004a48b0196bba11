// Whatever comes to the ports of a node, with the peer's certificate or without: the agent stays up and in its memory, the pair
// goes on replicating, and what nobody needs is closed.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { freePort } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

/** Connections of one attacker: all are ended with the scope. */
class Attacker {
  readonly open = new Set<Socket>();
  said = "";

  constructor(scope: Scope) {
    scope.defer("hostile connections", () => this.open.forEach((socket) => socket.destroy()));
  }

  keep(socket: Socket): Socket {
    this.open.add(socket);
    socket.on("error", () => {}); // being refused is what it is here for
    socket.on("data", (data) => this.said += data.toString("latin1").slice(0, 2000));
    socket.on("close", () => this.open.delete(socket));
    return socket;
  }

  /** Until the other side has closed all of them. */
  async allClosed(what: string, deadlineMs: number): Promise<void> {
    await waitFor(() => this.open.size === 0, {
      what: `the end of ${what}, of which ${this.open.size} are open`,
      deadlineMs,
    });
  }
}

/** As the secondary, by its own certificate. */
function asPeer({ primary, secondary }: Pair): Socket {
  const file = (home: string, name: string) => readFileSync(join(home, "conf", "tls", name));
  const own = file(primary.home, "node.crt");
  return connectTls({
    host: primary.host,
    port: primary.port,
    cert: file(secondary.home, "node.crt"),
    key: file(secondary.home, "node.key"),
    ca: [own],
    servername: "",
    checkServerIdentity: () => undefined,
  });
}

const head = (method: string, path: string, more: string) => `${method} ${path} HTTP/1.1\r\nhost: a\r\n${more}\r\n\r\n`;
const json = "content-type: application/json\r\n";

scopedTest("hostile bytes on every port", async (scope) => {
  const pair = await makePair(scope, {
    load: async (app) => void await app`CREATE TABLE mark (n int PRIMARY KEY)`,
  });
  const { primary, secondary } = pair;
  const healthPort = await freePort();
  await primary.stop();
  primary.configure({ health: { listen: `${primary.host}:${healthPort}` } });
  primary.start();
  await waitSteady(pair);
  const { node: before } = await primary.status();
  const app = primary.app(pair.target);
  let n = 0;
  /** The pair is as it was, and its stream goes on. */
  const goesOn = async (after: string) => {
    n++;
    await app`INSERT INTO mark VALUES (${n})`;
    await waitFor(async () => (await secondary.superuser`SELECT FROM mark WHERE n = ${n}`).length === 1, {
      what: `row ${n} on the secondary, after ${after}`,
      deadlineMs: 30_000,
      inVain: () => primary.isRunning && secondary.isRunning ? undefined : "an agent has died",
    });
    const { node, peer } = await primary.status();
    assert.deepEqual([node.state, node.epoch, peer.reachable], ["serving", before.epoch, true], after);
  };
  await goesOn("the start");
  const memory = primary.peakMemoryMb();
  const ports = [primary.port, healthPort];
  const attacker = new Attacker(scope);

  for (const port of ports) {
    for (let i = 0; i < 200; i++) {
      attacker.keep(connectTcp(port, primary.host)).end(randomBytes(1 + i * 20));
    }
    const hello = Buffer.concat([Buffer.from([0x16, 3, 1, 0x40, 0]), randomBytes(16_000)]);
    for (let i = 0; i < 50; i++) attacker.keep(connectTcp(port, primary.host)).end(hello);
  }
  await goesOn("garbage");
  await attacker.allClosed("connections with garbage", 60_000);

  // Never more than a part of a handshake, of a header.
  for (const port of ports) {
    for (let i = 0; i < 150; i++) {
      const socket = attacker.keep(connectTcp(port, primary.host));
      if (i % 3 === 1) socket.write(Buffer.from([0x16, 3, 1]));
      if (i % 3 === 2) socket.write("GET /primary HTTP/1.1\r\nx: ");
    }
  }
  await goesOn("half-open connections");

  // The peer itself, gone mad: bodies that never end, headers and bodies that are too large, no HTTP at all.
  const mad = (bytes: string | Uint8Array) => attacker.keep(asPeer(pair)).write(bytes);
  for (let i = 0; i < 10; i++) {
    mad(head("POST", "/v1/heartbeat", `${json}content-length: 1000`) + '{"name":');
    mad(head("POST", "/v1/row", `${json}transfer-encoding: chunked`) + '5\r\n{"a"');
    mad(head("GET", "/v1/peer", `x: ${"y".repeat(300_000)}`));
    mad(randomBytes(5000));
  }
  mad(head("POST", "/v1/heartbeat", `${json}content-length: 3000000`) + "x".repeat(3_000_000));
  mad(head("POST", "/v1/heartbeat", `${json}content-length: 99999999999`) + "x".repeat(3_000_000));
  mad(head("POST", "/v1/heartbeat", `${json}transfer-encoding: chunked`) + "7fffffff\r\n" + "x".repeat(3_000_000));
  for (const query of ["", "?after=x&generation=&capturing=2", `?after=${"9".repeat(9000)}`]) {
    mad(head("GET", `/v1/changes${query}`, "connection: close"));
  }
  await goesOn("a peer gone mad");
  await waitFor(() => attacker.said.includes("HTTP/1.1 413"), {
    what: "the answer to a large body",
    deadlineMs: 30_000,
  });
  await attacker.allClosed("connections that nobody goes on with", 120_000);

  // More connections than there is room for.
  for (const port of ports) for (let i = 0; i < 700; i++) attacker.keep(connectTcp(port, primary.host));
  await goesOn("a flood");
  const files = primary.openFiles();
  assert.ok(files < 1400, `${files} files are open`);
  for (const socket of attacker.open) socket.destroy();
  await waitFor(
    async () => (await fetch(`http://${primary.host}:${healthPort}/primary`)).status === 200,
    { what: "the health API after a flood", deadlineMs: 30_000 },
  );
  await goesOn("all of it");

  assert.ok(primary.peakMemoryMb() < memory + 300, `${memory} MB before, ${primary.peakMemoryMb()} MB at the most`);
  const log = readFileSync(primary.logFile, "utf8");
  for (const text of [log, attacker.said]) assert.doesNotMatch(text, /\n\s+at .+:\d+|PRIVATE KEY|Cannot go on/);
}, { timeoutMs: 400_000 });
