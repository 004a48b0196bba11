// The admin API over a unix socket in a temporary folder, and the health listener over loopback.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { z } from "zod";
import { callAgent } from "../../agent/api/admin_client.ts";
import { adminApp, adminOperation } from "../../agent/api/admin_routes.ts";
import { serveAdmin, serveHealth } from "../../agent/api/admin_serve.ts";
import { healthApp } from "../../agent/api/health_routes.ts";
import { AgentError, RefusedError, UnreachableError } from "../../agent/errors.ts";

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "hap-"));
});
after(() => rmSync(folder, { recursive: true }));

const app = () =>
  adminApp({
    status: () => ({ answer: 42 }),
    operations: [
      adminOperation("/refuse", z.object({}), () => {
        throw new RefusedError("Cannot switch over: the peer is away", "wait for it");
      }),
      adminOperation("/never", z.object({}), () => new Promise(() => {})),
    ],
  });

test("status goes over the socket, which is private; a stale one is replaced, a live one is not", async () => {
  const path = join(folder, "agent.sock");
  writeFileSync(path, "");
  const listener = await serveAdmin(path, app());
  try {
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(await callAgent(path, "GET", "/status"), { answer: 42 });
    await assert.rejects(
      serveAdmin(path, app()),
      (error: unknown) =>
        error instanceof RefusedError && error.message === "Cannot start: an agent is already running for this home",
    );
    await assert.rejects(
      callAgent(path, "POST", "/refuse", {}),
      (error: unknown) => error instanceof RefusedError && error.remedy === "wait for it",
    );
    await assert.rejects(callAgent(path, "POST", "/never", {}, 50), /did not answer within 50 ms/);
  } finally {
    await listener.close();
  }
  await assert.rejects(
    callAgent(path, "GET", "/status"),
    (error: unknown) =>
      error instanceof UnreachableError && error.exitCode === 4 && /no agent runs/.test(error.message),
  );
  const again = await serveAdmin(path, app());
  await again.close();
});

test("a socket whose path is too long is said so", async () => {
  await assert.rejects(serveAdmin(join(folder, "x".repeat(120)), app()), /at most 103 characters/);
});

/** What is answered to a check as HAProxy sends it: no header at all, and the answer ends with the connection. */
async function checkOf(port: number, line: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.write(`${line}\r\n\r\n`);
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  return answer;
}

test("the health API listens; a port that is taken is said so", async () => {
  const health = healthApp(() => ({
    name: "a",
    role: "primary",
    state: "serving",
    epoch: 1,
    writable: true,
    databaseOk: true,
    peerReachable: true,
  }), () => Promise.resolve({ text: "", contentType: "text/plain" }));
  const listener = await serveHealth({ host: "127.0.0.1", port: 0 }, health);
  try {
    const answer = await fetch(`http://127.0.0.1:${listener.port}/primary`);
    assert.equal(answer.status, 200);
    await answer.text();
    assert.match(await checkOf(listener.port, "OPTIONS /primary HTTP/1.0"), /^HTTP\/1\.[01] 200 /);
    assert.match(await checkOf(listener.port, "GET /replica HTTP/1.0"), /^HTTP\/1\.[01] 503 /);
    await assert.rejects(
      serveHealth({ host: "127.0.0.1", port: listener.port }, health),
      (error: unknown) => error instanceof AgentError && /taken by another program/.test(error.message),
    );
  } finally {
    await listener.close();
  }
});
