// The running node's side of a certificate change: what the peer announces is accepted from that moment on, and each change
// of what is accepted or shown reaches the listener.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkConfig } from "../../agent/config.ts";
import { homeAt } from "../../agent/home.ts";
import { CertificateWatch } from "../../agent/node/certificate_watch.ts";
import { Peer } from "../../agent/node/peer.ts";
import { fingerprint, hostOf, makeIdentity, writeIdentity } from "../../agent/trust/certificates.ts";
import { peerCertificatePath } from "../../agent/trust/join.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { issue } from "../helpers/authority.ts";
import { waitFor } from "../helpers/wait.ts";
import { test } from "node:test";

async function makeNode(scope: Scope, { pinned = true, days = 3650 } = {}) {
  const home = homeAt(join(scope.dir, "home"));
  mkdirSync(home.trustDir, { recursive: true, mode: 0o700 });
  const [own, theirs] = [await makeIdentity("a.example", days), await makeIdentity("b.example")];
  writeIdentity(home.nodeCertificate, home.nodeKey, own);
  if (pinned) writeFileSync(peerCertificatePath(home), theirs.cert);
  const config = checkConfig({
    node: { name: "a.example", role: "primary" },
    peer: { name: "b.example", address: "127.0.0.1:1" },
    postgres: { pgdata: "/nowhere" },
  }, "test");
  const peer = new Peer(home, config);
  const accepted: string[][] = [];
  const troubles: string[] = [];
  const reload = () => void accepted.push(peer.tls().trusted.map(({ pem }) => fingerprint(pem)));
  const onTrouble = (_name: string, problem: { message: string } | null) =>
    void (problem && troubles.push(problem.message));
  const watch = new CertificateWatch({ home, config, peer, reload, onTrouble, everyMs: 20 });
  scope.defer("the watch", async () => {
    await watch.stop();
    peer.close();
  });
  const operation = watch.operations()[0];
  const ask = (identity: unknown, now = false) => operation.run({ identity, now }, new AbortController().signal);
  return { home, own, theirs, peer, watch, accepted, troubles, ask };
}

scopedTest("every announcement that changes what is accepted reaches the listener, others do not", async (scope) => {
  const { theirs, peer, watch, accepted } = await makeNode(scope);
  const former = fingerprint(theirs.cert);
  const [one, other] = [await makeIdentity("b.example"), await makeIdentity("b.example")];
  const prints = [one, other].map(({ cert }) => fingerprint(cert));
  const take = (certificate: string, shown: string) => watch.take({ certificate }, shown);
  assert.deepEqual(take(one.cert, former), { fingerprint: prints[0], in_use: false });
  take(one.cert, former); // its answer was lost
  assert.deepEqual(take(other.cert, former), { fingerprint: prints[1], in_use: false });
  assert.deepEqual(take(other.cert, prints[1]), { fingerprint: prints[1], in_use: true });
  take(other.cert, prints[1]);
  assert.deepEqual(accepted, [[former, prints[0]], [former, prints[1]], [prints[1]]]);
  assert.deepEqual([...peer.tls().superseded ?? []], [former]);
  // And it does not take its own doing for a change by somebody else.
  assert.equal(peer.trustChanged(), false);
});

scopedTest("with nobody to ask a new certificate is in use at once", async (scope) => {
  const { own, peer, watch, accepted, ask } = await makeNode(scope, { pinned: false });
  watch.start();
  await ask(null);
  await waitFor(() => fingerprint(peer.certificate) !== fingerprint(own.cert), {
    what: "a new one",
    deadlineMs: 20_000,
  });
  assert.equal(accepted.length, 1);
});

scopedTest("asked for now, it does not wait for the peer", async (scope) => {
  const { own, peer, ask } = await makeNode(scope);
  await ask(null, true);
  assert.notEqual(fingerprint(peer.certificate), fingerprint(own.cert));
});

scopedTest("an imported one is checked by the agent too", async (scope) => {
  const { own, peer, ask } = await makeNode(scope);
  const wrong = await issue({ names: ["c.example"] });
  await assert.rejects(async () => await ask({ cert: wrong.cert, key: wrong.key }), /not for a\.example/);
  assert.equal(peer.certificate, own.cert);
});

scopedTest(
  "a peer that does not answer is no alarm of the renewal; the end of the certificate is one",
  async (scope) => {
    const { watch, troubles, ask } = await makeNode(scope, { days: 5 });
    await ask(null);
    watch.start();
    await waitFor(() => watch.alerts().length > 0, { what: "an alert", deadlineMs: 20_000 });
    const [alert] = watch.alerts();
    assert.deepEqual([alert.name, alert.severity], ["certificate", "error"]);
    assert.match(alert.message, /^the certificate of a\.example expires in 5 days, .* Try: agent cert renew$/);
    assert.deepEqual(troubles, []);
  },
);

for (
  const [name, host] of [
    ["db.example.com", "db.example.com"],
    ["db.example.com:8282", "db.example.com"],
    ["192.0.2.7:8282", "192.0.2.7"],
    ["2001:db8::1", "2001:db8::1"],
    ["[2001:db8::1]:8282", "2001:db8::1"],
  ]
) {
  test(`a certificate for node ${name} is for ${host}`, () => assert.equal(hostOf(name), host));
}
