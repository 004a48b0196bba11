// The tests' own link must really hold bytes back, or tests of splits prove nothing.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Link } from "../helpers/link.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

async function echo(scope: Scope) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  scope.defer("echo server", () => void server.close());
  return { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
}

async function open(scope: Scope) {
  const there = await echo(scope);
  const { link, toB } = await Link.open(scope, there, there);
  const client = connect(toB);
  scope.defer("client", () => void client.destroy());
  const got: Uint8Array[] = [];
  client.on("data", (chunk) => got.push(chunk));
  client.on("error", () => {});
  return { link, client, received: () => Buffer.concat(got) };
}

scopedTest("a megabyte passes unchanged, and the end with it", async (scope) => {
  const { client, received } = await open(scope);
  const sent = Buffer.alloc(1 << 20, "0123456789abc");
  client.end(sent);
  await once(client, "end");
  assert.ok(received().equals(sent));
});

scopedTest("a cut link swallows, a healed one delivers what waited, in order", async (scope) => {
  const { link, client, received } = await open(scope);
  client.write("a");
  await waitFor(() => received().length === 1, { what: "the first byte", deadlineMs: 2000 });
  link.cut();
  client.write("b");
  await pause(200); // nothing can be waited for here: the claim is that nothing comes
  assert.equal(received().toString(), "a");
  client.write("c");
  link.heal();
  await waitFor(() => received().toString() === "abc", { what: "all bytes", deadlineMs: 2000 });
});

scopedTest("a connection made while the link is cut gets through when it heals", async (scope) => {
  const there = await echo(scope);
  const { link, toB } = await Link.open(scope, there, there);
  link.cut("bToA");
  const client = connect(toB);
  scope.defer("client", () => void client.destroy());
  let got = "";
  client.on("data", (chunk) => got += chunk);
  client.write("hello");
  await pause(100);
  assert.equal(got, "");
  link.heal();
  await waitFor(() => got === "hello", { what: "the greeting", deadlineMs: 2000 });
});

scopedTest("a reset breaks the connections there are, and a slow link delays", async (scope) => {
  const { link, client, received } = await open(scope);
  link.slow({ delayMs: 100 });
  const start = performance.now();
  client.write("x");
  await waitFor(() => received().length === 1, { what: "the echo", deadlineMs: 2000 });
  assert.ok(performance.now() - start >= 190, "there and back takes twice the delay");
  link.reset();
  await waitFor(() => client.destroyed, { what: "the end of the connection", deadlineMs: 2000 });
});
