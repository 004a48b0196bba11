// The health API of a node, asked as a load balancer or Prometheus does; and what it must answer.
import assert from "node:assert/strict";
import type { Address } from "./link.ts";

const paths = [
  "/primary",
  "/read-write",
  "/secondary",
  "/replica",
  "/read-only",
  "/health",
  "/liveness",
  "/readiness",
  "/metrics",
];

/** The paths that answer 200; all others must answer 503. */
export const expectedHealth = {
  takesWrites: ["/primary", "/read-write", "/read-only", "/health", "/liveness", "/readiness", "/metrics"],
  standsBy: ["/secondary", "/replica", "/read-only", "/health", "/liveness", "/readiness", "/metrics"],
  catchesUp: ["/secondary", "/replica", "/read-only", "/health", "/liveness", "/metrics"],
  databaseGone: ["/liveness", "/metrics"],
};

/** Asks every path by every method. */
export async function checkHealth({ host, port }: Address, expected: keyof typeof expectedHealth): Promise<void> {
  const url = `http://${host}:${port}`;
  for (const path of paths) {
    for (const method of ["GET", "HEAD", "OPTIONS"]) {
      const answer = await fetch(url + path, { method });
      const body = await answer.text();
      const wanted = expectedHealth[expected].includes(path) ? 200 : 503;
      assert.equal(answer.status, wanted, `${method} ${path} where it ${expected}: ${body}`);
      assert.equal(body === "", method !== "GET", `${method} ${path}`);
    }
    const written = await fetch(url + path, { method: "POST" });
    assert.equal(written.status, 405, `POST ${path}`);
    await written.text();
  }
  const other = await fetch(`${url}/patroni`);
  assert.equal(other.status, 404);
  await other.text();
}

/** `/metrics` as name with labels to value; without the prefix `hapair_`. */
export async function scrape({ host, port }: Address): Promise<Map<string, number>> {
  const answer = await fetch(`http://${host}:${port}/metrics`);
  assert.match(answer.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
  const samples = (await answer.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(samples.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at).replace(/^hapair_/, ""), Number(line.slice(at + 1))];
  }));
}
