// The three APIs, asked in any way: random and spoilt bodies to their routes, spoilt bytes to their listeners. Every answer is
// one that was meant: its JSON has the right form, no stack, no secret; and who asked well before is answered well after.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect as connectTls, createSecureContext } from "node:tls";
import fc from "fast-check";
import type { Hono } from "hono";
import { adminApp } from "../../agent/api/admin_routes.ts";
import { type PlainListener, serveAdmin, serveHealth } from "../../agent/api/admin_serve.ts";
import { healthApp, healthChecks } from "../../agent/api/health_routes.ts";
import { peerApp } from "../../agent/api/peer_routes.ts";
import { problemBody } from "../../agent/api/problems.ts";
import { type PeerListener, servePeers } from "../../agent/api/serve.ts";
import { UnreachableError } from "../../agent/errors.ts";
import { homeAt } from "../../agent/home.ts";
import { conflictOperations } from "../../agent/node/conflicts.ts";
import { ProofAnswerer } from "../../agent/node/key_exchange.ts";
import { mergeOperations } from "../../agent/node/merge_operations.ts";
import { operatorCommands } from "../../agent/node/operator_commands.ts";
import { type Identity, makeIdentity, writeIdentity, writeWhole } from "../../agent/trust/certificates.ts";
import { joinCertificatePath, peerCertificatePath, pinPeer } from "../../agent/trust/join.ts";
import { takeAnnouncement } from "../../agent/trust/pins.ts";
import { runs, secrets, spoilt, spoiltText, tried } from "../helpers/fuzz.ts";
import { reportOf } from "../helpers/report.ts";
import { waitFor } from "../helpers/wait.ts";

const here = reportOf({ name: "a.example", role: "primary", state: "serving" });
const root = mkdtempSync(join(tmpdir(), "fuzz-api-"));
const home = homeAt(root);
let own: Identity, peer: Identity, joiner: Identity;
let peers: PeerListener, health: PlainListener, admin: PlainListener;
const apps: Record<"peer" | "health" | "admin", { fetch: Hono["fetch"] }> = {} as never;
const socket = join(root, "a.sock");

function starting(): never {
  throw new UnreachableError("Cannot do it: the agent is still starting", "try again in a moment");
}

before(async () => {
  [own, peer, joiner] = await Promise.all(["a.example", "b.example", "join"].map((name) => makeIdentity(name)));
  writeIdentity(home.nodeCertificate, home.nodeKey, own);
  writeWhole(peerCertificatePath(home), peer.cert, 0o644);
  writeWhole(joinCertificatePath(home), joiner.cert, 0o644);
  const proofs = new ProofAnswerer({
    self: { name: "a.example", role: "primary" },
    peer: { name: "b.example", role: "secondary" },
    pairId: () => "pair",
  });
  const app = peerApp({
    report: () => here,
    heard: () => {},
    mismatched: () => {},
    join: ({ certificate }) => {
      writeWhole(joinCertificatePath(home), joiner.cert, 0o644); // a join is open, again and again
      pinPeer(home, certificate);
      createSecureContext({ ca: [readFileSync(peerCertificatePath(home), "utf8")] }); // as the listener does then
      return { pinned: true, name: "a.example" };
    },
    takeCertificate: ({ certificate }, shown) => {
      const { fingerprint, inUse } = takeAnnouncement(home, certificate, shown, Date.now());
      return { fingerprint, in_use: inUse };
    },
    proveKey: (request) => proofs.answer(Buffer.from(secrets[0].repeat(4)), request, () => {}),
    position: () => Promise.resolve({ capturing: true, lsn: "0/3000" }),
    check: ({ postgres_port }) =>
      Promise.resolve({
        name: "a.example",
        role: "primary",
        agent_version: "1",
        protocol: 1,
        postgres_port,
        clock_ms: 1,
        findings: [],
        database: null,
      }),
    readRow: ({ key }) => Promise.resolve(Object.keys(key).length > 0 ? key : null),
  });
  const checks = healthApp(
    () => ({
      name: "a.example",
      role: "primary",
      state: "serving",
      epoch: 1,
      writable: true,
      databaseOk: true,
      peerReachable: true,
    }),
    () => Promise.resolve({ text: "up 1\n", contentType: "text/plain" }),
  );
  const operations = adminApp({
    status: () => ({ ok: true }),
    operations: [conflictOperations, mergeOperations, operatorCommands].flatMap((of) => of(starting)),
  });
  Object.assign(apps, { peer: app, health: checks, admin: operations });
  peers = await servePeers({
    listen: { host: "127.0.0.1", port: 0 },
    tls: { cert: own.cert, key: own.key, trusted: [{ pem: peer.cert, use: "peer" }] },
    app,
    raw: { "/v1/changes": (_request, response) => void response.end("changes") },
  });
  health = await serveHealth({ host: "127.0.0.1", port: 0 }, checks);
  admin = await serveAdmin(socket, operations);
});
after(async () => {
  await Promise.all([peers.close(), health.close(), admin.close()]);
  rmSync(root, { recursive: true, force: true });
});

/** Statuses that stand for something that somebody thought of; 500 does not. */
const meant = [200, 400, 404, 405, 409, 413, 503];

function checkText(text: string): void {
  assert.ok(!secrets.some((secret) => text.includes(secret)), text);
  assert.ok(!/\n\s+at .+:\d+/.test(text), text);
}

async function ask(app: keyof typeof apps, method: string, path: string, body?: string): Promise<void> {
  tried();
  const request = new Request(`http://a${path}`, {
    method,
    ...body === undefined || method === "GET" || method === "HEAD" ? {} : { body },
  });
  const answer = await apps[app].fetch(request, { peerUse: "peer", peerCertificate: "ab" });
  const text = await answer.text();
  assert.ok(meant.includes(answer.status), `${method} ${path}: ${answer.status} ${text}`);
  checkText(text);
  if (answer.status < 400 || text === "" || app === "health") return;
  const { error } = problemBody.parse(JSON.parse(text));
  assert.match(error, /^Cannot /);
  assert.doesNotMatch(error, /[\r\n]/);
}

const challenge = "ab".repeat(32);
const bodies: Record<string, Record<string, unknown>> = {
  "/v1/heartbeat": reportOf(),
  "/v1/join": { name: "b.example", pair_id: "pair", generation: "g1", certificate: "" },
  "/v1/row": { schema: "public", table: "t", key: { id: "1", v: null } },
  "/v1/position": {},
  "/v1/check": { postgres_port: 3456 },
  "/v1/certificate": { certificate: "" },
  "/v1/key/proof": { step: "begin", name: "b.example", role: "secondary", challenge },
  "/conflicts/list": { unreviewed: true, table: null, kind: null, limit: 5 },
  "/conflicts/show": { id: 1, reveal: false },
  "/conflicts/restore": { id: 1, side: null, yes: false, force: false, again: false },
  "/conflicts/reviewed": { ids: [1, 2] },
  "/switchover": { to: "primary", timeout_seconds: 5 },
  "/maintenance": { on: true },
  "/merge/dry_run": { timeout_seconds: 5 },
};
const words = [
  "null",
  "-1",
  "1e400",
  "9007199254740993",
  '"__proto__"',
  "[]",
  "{}",
  "true",
  '"\\u0000"',
  '"\\ud800"',
  "}",
];
const appOf = (path: string) => path.startsWith("/v1/") ? "peer" as const : "admin" as const;

test("bodies that are spoilt, and bodies of any kind", async () => {
  // Certificates, spoilt as such: pinned for good only if they are ones.
  const certificates = fc.oneof(
    spoilt(Buffer.from(own.cert), Buffer.from(joiner.cert)).map(String),
    fc.constant(own.cert + joiner.cert),
    fc.constant("-----BEGIN CERTIFICATE-----"),
  );
  const input = fc.constantFrom(...Object.keys(bodies)).chain((path) => {
    const known = JSON.stringify(bodies[path]);
    const withCertificate = certificates.map((certificate) => JSON.stringify({ ...bodies[path], certificate }));
    const changed = fc.tuple(fc.constantFrom("extra", ...Object.keys(bodies[path])), fc.anything())
      .map(([name, value]) => textOf({ ...bodies[path], [name]: value }));
    return fc.tuple(
      fc.constant(path),
      fc.oneof(
        spoiltText([known], words),
        changed,
        fc.json(),
        fc.string(),
        ..."certificate" in bodies[path] ? [withCertificate] : [],
      ),
    );
  });
  await fc.assert(fc.asyncProperty(input, ([path, body]) => ask(appOf(path), "POST", path, body)), runs(1500));
});

/** JSON where the value has any; bigints and the like have none. */
function textOf(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    assert.ok(error instanceof TypeError);
    return String(error);
  }
}

test("any method, any path", async () => {
  const paths = [
    "/status",
    "/metrics",
    "/v1/peer",
    "/v1/openapi.json",
    ...Object.keys(bodies),
    ...Object.keys(healthChecks),
  ];
  const odd = ["//", "/..", "?", "#", "%00", "%", "*", "/__proto__", "/constructor", "\\", "ü", "//x/", ":x"];
  const path = spoiltText(paths, odd).map((text) => "/" + text).filter((text) => URL.canParse(`http://a${text}`));
  const method = fc.constantFrom("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH");
  const app = fc.constantFrom("peer" as const, "admin" as const, "health" as const);
  await fc.assert(fc.asyncProperty(app, method, path, (app, method, path) => ask(app, method, path, "{}")), runs(1500));
});

test("a body that is too large, and one that is too deep", async () => {
  for (const [path, body] of Object.entries(bodies)) {
    await ask(appOf(path), "POST", path, JSON.stringify({ ...body, name: "x".repeat(2 << 20) }));
    await ask(appOf(path), "POST", path, "[".repeat(500_000));
    await ask(appOf(path), "POST", path, `{"name":${"[".repeat(100_000)}${"]".repeat(100_000)}}`);
  }
});

const request = (method: string, path: string, body = "") =>
  Buffer.from(
    `${method} ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n` +
      `content-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
  );
const chunked = Buffer.from(
  'POST /v1/row HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n',
);

/** Sends bytes, ends, and returns what came until the other side closed. */
function exchange(open: () => Socket, bytes: Uint8Array): Promise<string> {
  tried();
  return new Promise((resolve) => {
    let said = "";
    const connection = open();
    const late = setTimeout(() => connection.destroy(), 3000);
    connection.on("data", (data) => said += data.toString("latin1"));
    connection.on("error", () => {}); // closed while there was more to send
    connection.on("close", () => {
      clearTimeout(late);
      resolve(said);
    });
    connection.end(bytes);
  });
}

const listeners: { name: string; open: () => Socket; well: Buffer; samples: Buffer[]; runs: number }[] = [
  {
    name: "peer API",
    open: () =>
      connectTls({
        ...{ host: "127.0.0.1", port: peers.port, cert: peer.cert, key: peer.key, ca: [own.cert] },
        ...{ servername: "a.example" },
      }),
    well: request("GET", "/v1/peer"),
    samples: [
      request("POST", "/v1/heartbeat", JSON.stringify(reportOf())),
      request("GET", "/v1/changes?after=0/1"),
      chunked,
    ],
    runs: 60,
  },
  {
    name: "health API",
    open: () => connectTcp(health.port, "127.0.0.1"),
    well: request("GET", "/primary"),
    samples: [
      request("GET", "/primary"),
      request("HEAD", "/metrics"),
      request("POST", "/health", "x".repeat(300)),
      chunked,
    ],
    runs: 150,
  },
  {
    name: "admin API",
    open: () => connectTcp(socket),
    well: request("GET", "/status"),
    samples: [
      request("POST", "/switchover", JSON.stringify(bodies["/switchover"])),
      request("GET", "/status"),
      chunked,
    ],
    runs: 150,
  },
];

for (const { name, open, well, samples, runs: modest } of listeners) {
  test(`bytes to the listener of the ${name}`, async () => {
    const input = fc.oneof(spoilt(...samples), spoilt(Buffer.concat(samples)), fc.uint8Array({ maxLength: 300 }));
    await fc.assert(fc.asyncProperty(input, async (bytes) => checkText(await exchange(open, bytes))), runs(modest));
    const header = Buffer.from(`GET / HTTP/1.1\r\nx: ${"y".repeat(200_000)}\r\n\r\n`);
    assert.doesNotMatch(await exchange(open, header), /^HTTP\/1\.1 2/);
    assert.match(await exchange(open, well), /^HTTP\/1\.1 200/);
  });
}

test("bytes in place of the handshake", async () => {
  const hello = Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, ...randomBytes(500)]);
  const open = () => connectTcp(peers.port, "127.0.0.1");
  const input = fc.oneof(spoilt(hello, request("GET", "/v1/peer")), fc.uint8Array({ maxLength: 300 }));
  await fc.assert(
    fc.asyncProperty(input, async (bytes) => assert.doesNotMatch(await exchange(open, bytes), /HTTP|a\.example/)),
    runs(100),
  );
  assert.match(await exchange(listeners[0].open, listeners[0].well), /^HTTP\/1\.1 200/);
});

test("more connections than there is room for: the newest are answered, the oldest make room", async () => {
  const idle = Array.from({ length: 400 }, () => connectTcp(health.port, "127.0.0.1"));
  let closed = 0;
  for (const each of idle) each.on("close", () => closed++).on("error", () => {});
  try {
    await waitFor(() => closed >= 140, { what: "the oldest connections to be closed", deadlineMs: 20_000 });
    assert.match(
      await exchange(() => connectTcp(health.port, "127.0.0.1"), request("GET", "/primary")),
      /^HTTP\/1\.1 200/,
    );
  } finally {
    for (const each of idle) each.destroy();
  }
});
