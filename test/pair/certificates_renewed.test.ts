// Certificates of a running pair are renewed on both sides, replaced by those of an authority, and renewed while the other
// side is away. Nothing is restarted, the change stream is one from beginning to end, and a former certificate lets nobody in.
import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitEqual } from "../helpers/equality.ts";
import { issue, makeAuthority, serverAuth } from "../helpers/authority.ts";
import { ask, knock } from "../helpers/handshake.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";
import { waitFor } from "../helpers/wait.ts";

interface Shown {
  own: { fingerprint: string; issuer: string; self_signed: boolean; chain: string[] };
  next: unknown;
  renewal: { phase: string } | null;
  peer: { fingerprint: string };
  peer_next: { fingerprint: string } | null;
}

const show = async (node: PairNode): Promise<Shown> =>
  JSON.parse((await node.agent(["cert", "show", "--json"])).stdout);
const identityOf = ({ home }: PairNode) => ({
  cert: readFileSync(join(home, "conf", "tls", "node.crt"), "utf8"),
  key: readFileSync(join(home, "conf", "tls", "node.key"), "utf8"),
});

/** The session of the change stream: another one means that it was broken. */
async function streamOf({ primary }: Pair): Promise<number> {
  const [slot] = await primary.superuser<{ pid: number | null }[]>`
    SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = 'ha_relay'`;
  assert.ok(slot?.pid, "the change stream does not flow");
  return slot.pid;
}

/** Each accepts what the other shows, and nothing else; and they replicate. */
async function checkPair(pair: Pair, round: number): Promise<void> {
  const { primary, secondary } = pair;
  const [one, other] = [await show(primary), await show(secondary)];
  assert.equal(other.peer.fingerprint, one.own.fingerprint);
  assert.equal(one.peer.fingerprint, other.own.fingerprint);
  for (const shown of [one, other]) assert.deepEqual([shown.next, shown.peer_next, shown.renewal], [null, null, null]);
  assert.equal(await ask({ ...identityOf(primary), host: secondary.host, port: secondary.port }), 200);
  assert.equal(await ask({ ...identityOf(secondary), host: primary.host, port: primary.port }), 200);
  await changePassword(primary.app(pair.target), round + 1, 1);
  await waitEqual(primary.superuser, secondary.superuser);
}

scopedTest("certificates are renewed and imported while the pair runs", async (scope) => {
  const pair = await makePair(scope, { load: makeVault });
  const { primary, secondary } = pair;
  const stream = await streamOf(pair);
  await checkPair(pair, 0);

  // Renewed, on either side.
  for (const [node, other] of [[primary, secondary], [secondary, primary]]) {
    const former = { shown: await show(node), identity: identityOf(node) };
    const { stdout } = await node.agent(["cert", "renew", "--json"]);
    assert.equal(JSON.parse(stdout).state, "done");
    assert.notEqual((await show(node)).own.fingerprint, former.shown.own.fingerprint);
    assert.equal(statSync(join(node.home, "conf", "tls", "node.key")).mode & 0o077, 0);
    await checkPair(pair, 1);
    assert.equal(await knock({ ...former.identity, host: other.host, port: other.port }), "", "the former one lets in");
  }
  assert.equal(await streamOf(pair), stream, "the stream was broken by a renewal");

  // From an authority, after some that are not fit and change nothing.
  const { middle, chain } = await makeAuthority();
  const file = join(scope.dir, "node.pem");
  const keyFile = join(scope.dir, "node.key");
  const before = await show(primary);
  const stranger = await issue({ names: [primary.host], issuer: middle });
  const unfit: [Parameters<typeof issue>[0], RegExp][] = [
    [{ names: ["192.0.2.1"] }, /it is for IP Address:192\.0\.2\.1, not for 127\.0\.0\.1/],
    [{ names: [primary.host], to: -0.1 }, /has expired/],
    [{ names: [primary.host], purposes: [serverAuth] }, /may not be used as a TLS client/],
    [{ names: [primary.host], riddle: true }, /no TLS connection can be made with it/],
  ];
  for (const [wish, message] of unfit) {
    const own = await issue({ ...wish, issuer: middle });
    writeFileSync(file, own.cert + own.key + chain, { mode: 0o600 });
    const ran = await primary.agent(["cert", "import", file], { expect: 2 });
    assert.match(ran.stderr, message);
    assert.match(ran.stderr, /\nTry: .+\n$/);
  }
  writeFileSync(file, stranger.cert + chain);
  writeFileSync(keyFile, (await issue({ names: [primary.host] })).key, { mode: 0o600 });
  assert.match(
    (await primary.agent(["cert", "import", file, "--key", keyFile], { expect: 2 })).stderr,
    /the private key belongs to none of its certificates/,
  );
  assert.deepEqual(await show(primary), before);

  const caFile = join(scope.dir, "ca.pem");
  writeFileSync(caFile, chain);
  for (const [node, days] of [[primary, 300], [secondary, 5]] as const) {
    const own = await issue({ names: [node.host], issuer: middle, to: days });
    writeFileSync(file, own.cert);
    writeFileSync(keyFile, own.key, { mode: 0o600 });
    await node.agent(["cert", "import", file, "--key", keyFile, "--ca", caFile]);
    const { own: shown } = await show(node);
    assert.deepEqual([shown.self_signed, shown.chain], [false, ["CN=internal servers", "CN=internal root"]]);
    await checkPair(pair, 2);
  }
  assert.equal(await streamOf(pair), stream, "the stream was broken by an import");
  // Not whoever the authority knows, but this one certificate.
  for (const node of [primary, secondary]) {
    const other = node === primary ? secondary : primary;
    const alike = await issue({ names: [other.host], issuer: middle });
    assert.equal(await knock({ cert: alike.cert + chain, key: alike.key, host: node.host, port: node.port }), "");
  }
  // One of them ends in five days: both tell.
  const told = { secondary: "certificate", primary: "peer_certificate" };
  for (const node of [primary, secondary]) {
    await node.waitStatus(
      "in alarm for the secondary's certificate",
      ({ alerts }) => alerts.some(({ name, severity }) => name === told[node.role] && severity === "error"),
    );
  }

  // Renewed while the other is away, and the agent killed on the way: it goes on when they see each other.
  await secondary.stop();
  const waiting = await primary.agent(["cert", "renew", "--timeout", "3"], { expect: 4 });
  assert.match(waiting.stderr, /^Cannot finish yet: .* has not answered\nTry: wait: /);
  assert.equal((await show(primary)).renewal?.phase, "announced");
  primary.killAgent();
  const idle = await secondary.agent(["cert", "renew"], { expect: 4 });
  assert.match(idle.stderr, /no agent runs for this home/);
  primary.start();
  secondary.start();
  await waitSteady(pair, 90_000);
  for (const node of [primary, secondary]) {
    await waitFor(async () => (await show(node)).renewal === null, {
      what: `the end of the ${node.role}'s renewal`,
      deadlineMs: 60_000,
      everyMs: 250,
    });
    assert.ok((await show(node)).own.self_signed);
    for (const name of ["next.crt", "next.key", "renewal.json", "trust/peer_next.crt"]) {
      assert.ok(!existsSync(join(node.home, "conf", "tls", name)), `${name} was left over`);
    }
    await node.waitStatus("without alarm", ({ alerts }) => !alerts.some(({ name }) => name.includes("certificate")));
  }
  await checkPair(pair, 3);

  // Without asking the peer: it is given the certificate by hand.
  await secondary.agent(["cert", "renew", "--now"]);
  copyFileSync(
    join(secondary.home, "conf", "tls", "node.crt"),
    join(primary.home, "conf", "tls", "trust", "peer.crt"),
  );
  await waitSteady(pair, 90_000);
  await checkPair(pair, 5);

  // The same the other way round, while the PostgreSQL of who takes it over hangs.
  secondary.freezePostgres();
  await secondary.waitStatus("without its database", ({ database }) => !database.running, 60_000);
  await primary.agent(["cert", "renew", "--now"]);
  copyFileSync(
    join(primary.home, "conf", "tls", "node.crt"),
    join(secondary.home, "conf", "tls", "trust", "peer.crt"),
  );
  const letIn = () => ask({ ...identityOf(primary), host: secondary.host, port: secondary.port });
  await waitFor(async () => await letIn() === 200, {
    what: "the secondary to let the new certificate in",
    deadlineMs: 60_000,
    everyMs: 250,
  });
  assert.equal((await secondary.status()).database.running, false);
  secondary.thawPostgres();
  await waitSteady(pair, 90_000);
  await checkPair(pair, 6);

  // And all that is there after a restart of both.
  await secondary.stop();
  await primary.stop();
  primary.start();
  secondary.start();
  await waitSteady(pair, 90_000);
  await checkPair(pair, 4);
  await assertNoLeaks(pair);
}, { timeoutMs: 400_000 });
