// The peer listener and its client over loopback: who gets in, who does not, and that nothing is left open.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { setImmediate } from "node:timers/promises";
import process from "node:process";
import { after, before, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { Hono } from "hono";
import { z } from "zod";
import { PeerClient } from "../../agent/api/client.ts";
import { type PeerEnv, type PeerListener, servePeers } from "../../agent/api/serve.ts";
import { AgentError, RefusedError, UnreachableError } from "../../agent/errors.ts";
import { fingerprint, type Identity, makeIdentity } from "../../agent/trust/certificates.ts";
import { issue, makeAuthority } from "../helpers/authority.ts";

const anything = z.unknown();
let primary: Identity, secondary: Identity, joiner: Identity, stranger: Identity;
let listener: PeerListener;
const clients: PeerClient[] = [];
let streamed = 0;
let rawClosed: Promise<unknown>;

function clientOf(identity: Identity, pinned = primary.cert, port = listener.port): PeerClient {
  const client = new PeerClient({
    address: { host: "127.0.0.1", port },
    tls: { cert: identity.cert, key: identity.key, pinned },
  });
  clients.push(client);
  return client;
}

const trust = (...list: [Identity, "peer" | "join"][]) => ({
  cert: primary.cert,
  key: primary.key,
  trusted: list.map(([identity, use]) => ({ pem: identity.cert, use })),
});

before(async () => {
  [primary, secondary, joiner, stranger] = await Promise.all(
    ["a.example", "b.example", "join", "127.0.0.1"].map((name) => makeIdentity(name)),
  );
  const app = new Hono<PeerEnv>();
  app.get("/v1/peer", (c) => c.json({ use: c.env.peerUse }));
  app.get("/v1/none", (c) => c.json({ error: "Cannot do it: busy", remedy: "wait" }, 409));
  app.get("/v1/slow", () => new Promise<Response>(() => {}));
  app.post("/v1/join", (c) => {
    listener.reload(trust([secondary, "peer"]));
    return c.json({ use: c.env.peerUse });
  });
  listener = await servePeers({
    listen: { host: "127.0.0.1", port: 0 },
    tls: trust([secondary, "peer"], [joiner, "join"]),
    app,
    raw: {
      "/v1/changes": (_request, response) => {
        rawClosed = once(response, "close");
        const chunk = Buffer.alloc(65536, 7);
        const pump = () => {
          for (let more = true; more && !response.destroyed;) {
            streamed += chunk.length;
            more = response.write(chunk);
          }
        };
        response.on("drain", pump);
        response.writeHead(200);
        pump();
      },
      "/v1/fails": () => Promise.reject(new Error("no such slot")),
    },
  });
});

after(async () => {
  for (const client of clients) client.close();
  await listener.close();
});

test("the peer gets in and is told apart from the join certificate", async () => {
  assert.deepEqual(await clientOf(secondary).call("GET", "/v1/peer", undefined, anything), { use: "peer" });
  const joining = clientOf(joiner);
  assert.deepEqual(await joining.call("GET", "/v1/peer", undefined, anything), { use: "join" });
  await assert.rejects(joining.call("GET", "/v1/none", undefined, anything), /join certificate only opens/);
  await assert.rejects(joining.openStream("GET", "/v1/changes", {}), RefusedError);
});

test("anyone else fails in the handshake, again and again", async () => {
  for (let i = 0; i < 10; i++) {
    await assert.rejects(clientOf(stranger).call("GET", "/v1/peer", undefined, anything), UnreachableError);
  }
  const bare = connectTls({ host: "127.0.0.1", port: listener.port, ca: [primary.cert], servername: "a.example" });
  bare.write("GET /v1/peer HTTP/1.1\r\nhost: x\r\n\r\n");
  bare.on("error", () => {});
  let said = "";
  bare.on("data", (data) => said += data);
  await new Promise((resolve) => bare.once("close", resolve));
  assert.equal(said, "");
});

test("a server with another certificate than the pinned one is not talked to", async () => {
  await assert.rejects(
    clientOf(secondary, stranger.cert).call("GET", "/v1/peer", undefined, anything),
    (error: unknown) => error instanceof UnreachableError && /Cannot reach 127\.0\.0\.1:/.test(error.message),
  );
});

test("a certificate named after an address works", async () => {
  const own = await servePeers({
    listen: { host: "127.0.0.1", port: 0 },
    tls: { cert: stranger.cert, key: stranger.key, trusted: [{ pem: secondary.cert, use: "peer" }] },
    app: new Hono<PeerEnv>().get("/v1/peer", (c) => c.json(1)),
    raw: {},
  });
  try {
    assert.equal(await clientOf(secondary, stranger.cert, own.port).call("GET", "/v1/peer", undefined, anything), 1);
  } finally {
    await own.close();
  }
});

test("the peer's refusals and failures come as errors with a remedy", async () => {
  const client = clientOf(secondary);
  await assert.rejects(
    client.call("GET", "/v1/none", undefined, anything),
    (error: unknown) =>
      error instanceof RefusedError && error.message === "Cannot do it: busy" && error.remedy === "wait",
  );
  await assert.rejects(client.openStream("GET", "/v1/fails", {}), /no such slot/);
  await assert.rejects(client.call("POST", "/v1/changes", {}, anything), /read with GET/);
  await assert.rejects(client.peer(), AgentError);
});

test("many calls on one kept connection leave no listeners behind", async () => {
  const warnings: string[] = [];
  const note = ({ message }: Error) => warnings.push(message);
  process.on("warning", note);
  const client = clientOf(secondary);
  for (let n = 0; n < 30; n++) await client.call("GET", "/v1/peer", undefined, anything);
  await setImmediate();
  process.off("warning", note);
  assert.deepEqual(warnings, []);
});

test("a call that is not answered ends at its deadline or with its signal", async () => {
  const client = clientOf(secondary);
  await assert.rejects(
    client.call("GET", "/v1/slow", undefined, anything, { timeoutMs: 80 }),
    (error: unknown) => error instanceof UnreachableError && /no answer within 80 ms/.test(error.message),
  );
  const controller = new AbortController();
  const call = client.call("GET", "/v1/slow", undefined, anything, { signal: controller.signal });
  controller.abort(new Error("given up"));
  await assert.rejects(call, /given up/);
});

test("a stream is sent no faster than it is read, and ends on both sides when it is given up", async () => {
  const controller = new AbortController();
  const stream = await clientOf(secondary).openChanges(
    { after: 5n, generation: "g", capturing: true },
    controller.signal,
  );
  const reader = stream[Symbol.asyncIterator]();
  const first = await reader.next();
  assert.equal(first.value[0], 7);
  // Unread: the sender must come to a stop. It is watched until nothing moves for many turns of the loop. Not under deno,
  // whose TLS sockets read on while they are paused; the agent is built with bun.
  let before = -1;
  for (let still = 0; still < 2000 && !("deno" in process.versions);) {
    await setImmediate();
    still = streamed === before ? still + 1 : 0;
    before = streamed;
    assert.ok(streamed < 256 * 1024 * 1024, `${streamed} bytes sent unread`);
  }
  assert.ok(streamed > 0);
  controller.abort();
  await rawClosed;
  await assert.rejects(async () => {
    for (;;) if ((await reader.next()).done) throw new Error("ended");
  });
});

test("a port that is taken is said so", async () => {
  await assert.rejects(
    servePeers({
      listen: { host: "127.0.0.1", port: listener.port },
      tls: trust(),
      app: new Hono<PeerEnv>(),
      raw: {},
    }),
    new RegExp(`Cannot listen on 127\\.0\\.0\\.1:${listener.port}: it is taken by another program`),
  );
});

test("the join certificate retires with the request that it makes", async () => {
  const joining = clientOf(joiner);
  assert.deepEqual(await joining.call("POST", "/v1/join", {}, anything), { use: "join" });
  await assert.rejects(joining.call("GET", "/v1/peer", undefined, anything), UnreachableError);
  assert.deepEqual(await clientOf(secondary).call("GET", "/v1/peer", undefined, anything), { use: "peer" });
});

test("a renewed certificate is taken over on either side without breaking a stream", async () => {
  const renewed = await makeIdentity("a.example");
  const ownNext = await makeIdentity("b.example");
  const client = clientOf(secondary, primary.cert);
  const stream = await client.openStream("GET", "/v1/changes", {});
  const reader = stream[Symbol.asyncIterator]();
  await reader.next();
  // The client accepts both, then the listener shows the new one, then the client accepts nothing else.
  client.reload({ cert: secondary.cert, key: secondary.key, pinned: [primary.cert, renewed.cert] });
  listener.reload({ ...trust([secondary, "peer"], [ownNext, "peer"]), cert: renewed.cert, key: renewed.key });
  assert.deepEqual(await client.call("GET", "/v1/peer", undefined, anything), { use: "peer" });
  client.reload({ cert: ownNext.cert, key: ownNext.key, pinned: renewed.cert });
  assert.deepEqual(await client.call("GET", "/v1/peer", undefined, anything), { use: "peer" });
  await assert.rejects(clientOf(secondary).call("GET", "/v1/peer", undefined, anything), UnreachableError);
  // The client's former certificate is dropped: its stream goes on, and it makes no new connection.
  const superseded = new Set([fingerprint(secondary.cert)]);
  listener.reload({ ...trust([ownNext, "peer"]), cert: renewed.cert, key: renewed.key, superseded });
  for (let i = 0; i < 200; i++) assert.equal((await reader.next()).done, false);
  await assert.rejects(
    clientOf(secondary, renewed.cert).call("GET", "/v1/peer", undefined, anything),
    UnreachableError,
  );
  stream.destroy();
  listener.reload(trust([secondary, "peer"]));
});

test("of those whom an authority has issued to, the pinned one is let in", async () => {
  const { middle, chain } = await makeAuthority();
  const [server, pinned, other] = await Promise.all(
    ["127.0.0.1", "b.example", "b.example"].map((name) => issue({ names: [name], issuer: middle })),
  );
  const own = await servePeers({
    listen: { host: "127.0.0.1", port: 0 },
    tls: { cert: server.cert + chain, key: server.key, trusted: [{ pem: pinned.cert + chain, use: "peer" }] },
    app: new Hono<PeerEnv>().get("/v1/peer", (c) => c.json(c.env.peerCertificate)),
    raw: {},
  });
  const call = ({ cert, key }: Identity, by: Identity) =>
    clientOf({ cert: cert + chain, key }, by.cert + chain, own.port).call("GET", "/v1/peer", undefined, anything);
  try {
    assert.equal(await call(pinned, server), fingerprint(pinned.cert));
    await assert.rejects(call(other, server), UnreachableError);
    await assert.rejects(call(pinned, other), UnreachableError);
  } finally {
    await own.close();
  }
});

test("reload ends streams of a certificate that is no longer trusted; close ends all", async () => {
  const stream = await clientOf(secondary).openStream("GET", "/v1/changes", {});
  listener.reload(trust([stranger, "peer"]));
  await assert.rejects(async () => {
    for await (const _ of stream);
  });
  await assert.rejects(clientOf(secondary).call("GET", "/v1/peer", undefined, anything), UnreachableError);
  assert.deepEqual(await clientOf(stranger).call("GET", "/v1/peer", undefined, anything), { use: "peer" });
  const halfOpen = connectTcp(listener.port, "127.0.0.1");
  halfOpen.on("error", () => {});
  await once(halfOpen, "connect");
  const last = await clientOf(stranger).openStream("GET", "/v1/changes", {});
  const ended = assert.rejects(async () => {
    for await (const _ of last);
  });
  await listener.close();
  await ended;
});

test("what nobody goes on with is ended; a stream on which nothing moves is not", async () => {
  const own = await servePeers({
    listen: { host: "127.0.0.1", port: 0 },
    tls: trust([secondary, "peer"]),
    app: new Hono<PeerEnv>().post("/v1/body", async (c) => c.text(await c.req.text())),
    raw: { "/v1/changes": (_request, response) => void response.write("begun") },
    idleMs: 300,
  });
  try {
    const open = (bytes: string) => {
      const { cert, key } = secondary;
      const socket = connectTls({
        host: "127.0.0.1",
        port: own.port,
        cert,
        key,
        ca: [primary.cert],
        servername: "a.example",
      });
      socket.on("error", () => {}); // being reset is one way of being ended
      if (bytes) socket.write(bytes);
      return socket;
    };
    const stream = open("GET /v1/changes HTTP/1.1\r\nhost: a\r\n\r\n");
    await once(stream, "data");
    // Opened later, so that their time is over later than the stream's would be.
    const idle = ["", "GET /v1/body HTTP/1.1\r\nx: ", "POST /v1/body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx"]
      .map(open);
    for (const each of idle) each.resume();
    await Promise.all(idle.map((each) => once(each, "close")));
    assert.equal(stream.destroyed, false);
    assert.equal(stream.readableEnded, false);
  } finally {
    await own.close();
  }
});
