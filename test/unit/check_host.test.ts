// What `agent check` reads of a node's machine: the key only where it may be used, a certificate with its whole chain.
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hostFindings } from "../../agent/check/host_findings.ts";
import { readHost } from "../../agent/check/read_host.ts";
import type { Config } from "../../agent/config.ts";
import { homeAt } from "../../agent/home.ts";
import { makeIdentity, writeIdentity } from "../../agent/trust/certificates.ts";
import { peerCertificatePath } from "../../agent/trust/join.ts";
import { createKey, writeKeyPath } from "../../agent/trust/key.ts";
import { rememberKey } from "../../agent/trust/key_print.ts";
import { issue } from "../helpers/authority.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";

// Addresses, so that no name is looked up; the disks are those of somebody else.
const config = {
  node: { name: "192.0.2.1" },
  peer: { address: "192.0.2.2:8282" },
  postgres: { url: "postgres://192.0.2.1/app" },
  failover: { min_free_mb: 64 },
} as unknown as Config;

async function makeHome(scope: Scope) {
  const home = homeAt(join(scope.dir, "home"));
  mkdirSync(home.trustDir, { recursive: true });
  const path = join(scope.dir, "master.key");
  const key = createKey(path);
  writeKeyPath(home, path);
  rememberKey(home, key);
  writeIdentity(home.nodeCertificate, home.nodeKey, await makeIdentity("192.0.2.1"));
  return { home, path };
}

scopedTest("a key that was exchanged is not ok, though it can be read", async (scope) => {
  const { home, path } = await makeHome(scope);
  assert.deepEqual((await readHost(home, config)).key, { path });
  rmSync(path);
  createKey(path);
  const { key } = await readHost(home, config);
  assert.match("problem" in key ? key.problem : "no problem", /not the key that this node was set up with/);
});

scopedTest("a certificate is good for as long as all of its chain is", async (scope) => {
  const { home } = await makeHome(scope);
  const root = await issue({ subject: "CN=root", authority: true });
  const middle = await issue({ subject: "CN=middle", authority: true, issuer: root, to: 5 });
  const own = await issue({ names: ["192.0.2.2"], issuer: middle, to: 300 });
  writeFileSync(peerCertificatePath(home), own.cert + middle.cert + root.cert);
  const findings = hostFindings(await readHost(home, config), new Date());
  const of = (name: string) => findings.find((one) => one.name === name)!;
  assert.equal(of("certificate").severity, "ok");
  const { severity, message, remedy } = of("certificate_peer");
  assert.equal(severity, "warning");
  assert.match(message, /CN=192\.0\.2\.2 ends on .*, in [45] days$/);
  assert.match(remedy!, /^agent cert import FILE/);
});
