// The routes of the peer, admin and health APIs: requests to answers, no socket.
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { adminApp, adminOperation } from "../../agent/api/admin_routes.ts";
import { mayReach } from "../../agent/api/access.ts";
import { healthApp, healthChecks, type HealthView } from "../../agent/api/health_routes.ts";
import { peerApp } from "../../agent/api/peer_routes.ts";
import { RefusedError } from "../../agent/errors.ts";
import type { NodeReport } from "../../agent/report.ts";
import { reportOf } from "../helpers/report.ts";

const here = reportOf({ name: "a.example", role: "primary", state: "serving" });

/** A node's answer to a check that found nothing. */
const looked = {
  name: "a.example",
  role: "primary",
  agent_version: "0.0.0",
  protocol: 1,
  postgres_port: 3456,
  clock_ms: 0,
  findings: [],
  database: null,
} as const;

function peerSide() {
  const heard: NodeReport[] = [];
  const mismatches: string[] = [];
  const app = peerApp({
    report: () => here,
    heard: (report) => heard.push(report),
    mismatched: (problem) => mismatches.push(problem),
    join: ({ name }) => {
      if (name !== "b.example") throw new RefusedError("Cannot join: no join is open", "make a new pack");
      return { pinned: true, name: "a.example" };
    },
    takeCertificate: (request, shown) => ({ fingerprint: shown, in_use: request.certificate.includes("new") }),
    proveKey: (request) =>
      request.step === "begin"
        ? { name: "a.example", role: "primary", challenge: "ab".repeat(32) }
        : { same: request.proof === "cd".repeat(32), proof: null },
    position: () => Promise.resolve({ capturing: true, lsn: "0/3000" }),
    check: ({ postgres_port }) => Promise.resolve({ ...looked, findings: [], postgres_port }),
    readRow: ({ table, key }) => Promise.resolve(table === "t" && key.id === "1" ? { id: "1", v: null } : null),
  });
  const post = (path: string, body: unknown) =>
    app.request(path, {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "content-type": "application/json" },
    });
  return { app, heard, mismatches, post };
}

test("GET /v1/peer says who this is", async () => {
  const answer = await peerSide().app.request("/v1/peer");
  assert.equal(answer.status, 200);
  assert.deepEqual(await answer.json(), here);
});

test("POST /v1/row answers with the row as it is here, or with none", async () => {
  const { post } = peerSide();
  const ask = async (id: string) => await (await post("/v1/row", { schema: "public", table: "t", key: { id } })).json();
  assert.deepEqual(await ask("1"), { row: { id: "1", v: null } });
  assert.deepEqual(await ask("2"), { row: null });
  assert.equal((await post("/v1/row", { schema: "public", table: "t", key: { id: 1 } })).status, 400);
});

test("POST /v1/position says how far the changes of this node go", async () => {
  const answer = await peerSide().app.request("/v1/position", { method: "POST" });
  assert.deepEqual(await answer.json(), { capturing: true, lsn: "0/3000" });
});

test("POST /v1/check takes a port and no address: only this pair's own are tried", async () => {
  const { post } = peerSide();
  assert.deepEqual(await (await post("/v1/check", { postgres_port: 5432 })).json(), { ...looked, postgres_port: 5432 });
  for (const postgres_port of [0, 65_536, 1.5, "5432", null]) {
    assert.equal((await post("/v1/check", { postgres_port })).status, 400);
  }
  assert.equal((await post("/v1/check", {})).status, 400);
  assert.equal((await post("/v1/check", { postgres_port: 1, host: "192.0.2.1" })).status, 400);
  assert.equal(mayReach("join", "POST", "/v1/check"), false);
});

test("a heartbeat is answered with the own report and passed on", async () => {
  const side = peerSide();
  const answer = await side.post("/v1/heartbeat", reportOf());
  assert.deepEqual(await answer.json(), here);
  assert.deepEqual(side.heard, [reportOf()]);
});

for (
  const [what, changed, says] of [
    ["of another pair", { pair_id: "other" }, /belongs to another pair/],
    ["of another generation", { generation: "g0" }, /seeded from another pack/],
    ["of another protocol", { protocol: 2 }, /speaks protocol 2/],
    ["of another protocol, with other fields", { protocol: 2, state: "dancing" as never }, /speaks protocol 2/],
    ["of the same role", { role: "primary" }, /both primary/],
  ] as [string, Partial<NodeReport>, RegExp][]
) {
  test(`a heartbeat of a node ${what} is refused and noted`, async () => {
    const side = peerSide();
    const answer = await side.post("/v1/heartbeat", reportOf(changed));
    assert.equal(answer.status, 409);
    const body = await answer.json();
    assert.match(body.error, says);
    assert.ok(body.remedy);
    assert.equal(side.heard.length, 0);
    assert.match(side.mismatches[0], says);
  });
}

test("malformed bodies are named for their fault", async () => {
  const { post } = peerSide();
  for (
    const [body, says] of [
      ["{", /not JSON/],
      [{ ...reportOf(), applied_lsn: "zero" }, /applied_lsn: must be an LSN/],
      [{ ...reportOf(), epoch: -1 }, /epoch/],
      [[], /body/],
    ] as [unknown, RegExp][]
  ) {
    const answer = await post("/v1/heartbeat", body);
    assert.equal(answer.status, 400);
    assert.match((await answer.json()).error, says);
  }
  const large = await post("/v1/heartbeat", "x".repeat(1024 * 1024 + 1));
  assert.equal(large.status, 413);
});

test("joining is refused for another pack and where no join is open", async () => {
  const { post } = peerSide();
  const request = {
    name: "b.example",
    pair_id: "pair",
    generation: "g1",
    certificate: "-----BEGIN CERTIFICATE-----\n",
  };
  assert.deepEqual(await (await post("/v1/join", request)).json(), { pinned: true, name: "a.example" });
  assert.equal((await post("/v1/join", { ...request, generation: "g0" })).status, 409);
  assert.equal((await post("/v1/join", { ...request, certificate: "x" })).status, 400);
  const refused = await post("/v1/join", { ...request, name: "c.example" });
  assert.equal(refused.status, 409);
  assert.equal((await refused.json()).remedy, "make a new pack");
});

test("key proofs and new certificates are handed on, malformed ones are not", async () => {
  const { app, post } = peerSide();
  const hash = "cd".repeat(32);
  const begin = { step: "begin", name: "b.example", role: "secondary", challenge: hash };
  assert.equal((await (await post("/v1/key/proof", begin)).json()).name, "a.example");
  const proven = await post("/v1/key/proof", { step: "prove", challenge: hash, proof: hash });
  assert.deepEqual(await proven.json(), { same: true, proof: null });
  for (const bad of [{}, { ...begin, step: "prove" }, { ...begin, challenge: "cd" }, { ...begin, role: "x" }]) {
    assert.equal((await post("/v1/key/proof", bad)).status, 400);
  }
  const pem = "-----BEGIN CERTIFICATE-----\nnew";
  const announced = await app.request(
    "/v1/certificate",
    { method: "POST", body: JSON.stringify({ certificate: pem }) },
    { peerUse: "peer", peerCertificate: hash },
  );
  assert.deepEqual(await announced.json(), { fingerprint: hash, in_use: true });
  for (const bad of [{}, { certificate: "x" }, { certificate: pem + "x".repeat(100_000) }]) {
    assert.equal((await post("/v1/certificate", bad)).status, 400);
  }
});

test("unknown paths and methods are answered in JSON", async () => {
  const { app } = peerSide();
  const missing = await app.request("/v1/nothing");
  assert.equal(missing.status, 404);
  assert.match((await missing.json()).error, /no such path/);
  const method = await app.request("/v1/heartbeat");
  assert.equal(method.status, 405);
  assert.equal(method.headers.get("allow"), "POST");
  assert.ok((await method.json()).remedy);
});

test("the OpenAPI document refers only to what it holds", async () => {
  const document = await (await peerSide().app.request("/v1/openapi.json")).json();
  assert.equal(document.openapi, "3.1.0");
  const names = [...JSON.stringify(document).matchAll(/#\/components\/schemas\/(\w+)/g)].map((match) => match[1]);
  for (const name of names) assert.ok(document.components.schemas[name], name);
  assert.ok(document.components.schemas.NodeReport.properties.applied_lsn);
});

test("the join certificate opens joining and discovery only", () => {
  assert.ok(mayReach("join", "POST", "/v1/join") && mayReach("join", "GET", "/v1/peer"));
  for (const path of ["/v1/certificate", "/v1/key/proof"]) assert.equal(mayReach("join", "POST", path), false, path);
  for (const path of ["/v1/changes", "/v1/pack", "/v1/heartbeat", "/v1/join"]) {
    assert.equal(mayReach("join", "GET", path), false, path);
    assert.equal(mayReach("peer", "GET", path), true, path);
  }
});

test("a token opens the pack and discovery only", () => {
  for (const method of ["GET", "HEAD"]) assert.ok(mayReach("token", method, "/v1/pack"));
  assert.ok(mayReach("token", "GET", "/v1/peer"));
  for (const path of ["/v1/changes", "/v1/heartbeat", "/v1/join", "/v1/row", "/v1/pack"]) {
    assert.equal(mayReach("token", "POST", path), false, path);
  }
  assert.equal(mayReach("token", "GET", "/v1/changes"), false);
});

test("admin operations take checked input; their errors keep their exit code", async () => {
  const app = adminApp({
    status: () => ({ node: "a" }),
    operations: [
      adminOperation("/double", z.object({ n: z.number() }), ({ n }) => ({ n: n * 2 })),
      adminOperation("/refuse", z.object({}), () => {
        throw new RefusedError("Cannot: no", "wait");
      }),
    ],
  });
  const post = (path: string, body: unknown) => app.request(path, { method: "POST", body: JSON.stringify(body) });
  assert.deepEqual(await (await app.request("/status")).json(), { node: "a" });
  assert.deepEqual(await (await post("/double", { n: 2 })).json(), { n: 4 });
  assert.equal((await post("/double", { n: "2" })).status, 400);
  assert.deepEqual(await (await post("/refuse", {})).json(), { error: "Cannot: no", remedy: "wait", exit_code: 3 });
  assert.equal((await app.request("/double")).status, 405);
});

const views: Record<string, HealthView> = {
  "primary that serves": view({}),
  "primary that catches up": view({ state: "catching_up", writable: false }),
  "secondary in standby": view({ role: "secondary", state: "standby", writable: false }),
  "secondary that serves": view({ role: "secondary" }),
  "database gone": view({ databaseOk: false }),
};
const expected: Record<string, string[]> = {
  "primary that serves": ["/primary", "/read-write", "/read-only", "/health", "/liveness", "/readiness"],
  "primary that catches up": ["/secondary", "/replica", "/read-only", "/health", "/liveness"],
  "secondary in standby": ["/secondary", "/replica", "/read-only", "/health", "/liveness", "/readiness"],
  "secondary that serves": ["/primary", "/read-write", "/read-only", "/health", "/liveness", "/readiness"],
  "database gone": ["/liveness"],
};

function view(changed: Partial<HealthView>): HealthView {
  return {
    name: "a",
    role: "primary",
    state: "serving",
    epoch: 1,
    writable: true,
    databaseOk: true,
    peerReachable: true,
    ...changed,
  };
}

const noMetrics = () => Promise.reject(new Error("nobody has asked for them"));

for (const [what, value] of Object.entries(views)) {
  test(`health of a ${what}`, async () => {
    const app = healthApp(() => value, noMetrics);
    for (const path of Object.keys(healthChecks)) {
      for (const method of ["GET", "HEAD", "OPTIONS"]) {
        const answer = await app.request(path, { method });
        assert.equal(answer.status, expected[what].includes(path) ? 200 : 503, `${method} ${path}`);
        assert.equal((await answer.text()) === "", method !== "GET");
      }
      assert.equal((await app.request(path, { method: "POST" })).status, 405);
    }
  });
}

test("figures are read, whatever the database does, and nothing is written", async () => {
  const app = healthApp(
    () => view({ databaseOk: false }),
    () => Promise.resolve({ text: "hapair_epoch 1\n", contentType: "text/plain; version=0.0.4" }),
  );
  for (
    const [method, status, body] of [
      ["GET", 200, "hapair_epoch 1\n"],
      ["HEAD", 200, ""],
      ["OPTIONS", 200, ""],
      ["POST", 405, '{"error":"Cannot POST /metrics: it is read-only"}'],
    ] as const
  ) {
    const answer = await app.request("/metrics", { method });
    assert.deepEqual([answer.status, await answer.text()], [status, body], method);
    if (method === "GET") assert.match(answer.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
  }
  assert.equal((await app.request("/metrics/x")).status, 404);
  const broken = await healthApp(() => view({}), noMetrics).request("/metrics");
  assert.equal(broken.status, 500);
  assert.match(await broken.text(), /^\{"error":"Cannot answer \/metrics: nobody has asked for them"/);
});
