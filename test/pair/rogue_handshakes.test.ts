// Strangers at the peer API of both nodes, thousands of them: without a certificate, with one of their own, of
// the peer's name, expired, of another authority, with TLS 1.2, with no TLS at all. None is answered; the agents stay up,
// their memory does not grow with the number of knocks, and the change stream goes on.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { waitEqual } from "../helpers/equality.ts";
import { issue, makeAuthority } from "../helpers/authority.ts";
import { ask, type Knock, knock } from "../helpers/handshake.ts";
import { assertNoLeaks, makePair } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";

const rounds = 6;
const perRound = 400;
/** How much more memory an agent may have after two thousand knocks more: a leak of 20 kB each would be found. */
const roomMb = 40;

/** Bytes that are no handshake; "" where nothing comes back but an alert of TLS, or the end. */
async function babble(node: PairNode, bytes: string): Promise<string> {
  const socket = connect(node.port, node.host);
  let said = "";
  socket.on("data", (data) => said += data.toString("latin1"));
  socket.on("error", () => {});
  socket.end(bytes, "latin1");
  await new Promise((closed) => socket.once("close", closed));
  return said.startsWith("\x15") ? "" : said;
}

scopedTest("strangers are refused by the thousand", async (scope) => {
  const pair = await makePair(scope, { load: makeVault });
  const { primary, secondary } = pair;
  const identityOf = ({ home }: PairNode) => ({
    cert: readFileSync(join(home, "conf", "tls", "node.crt"), "utf8"),
    key: readFileSync(join(home, "conf", "tls", "node.key"), "utf8"),
  });
  const stream = async () => {
    const [slot] = await primary.superuser<{ pid: number | null }[]>`
      SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = 'ha_relay'`;
    return slot.pid;
  };
  const before = await stream();
  assert.ok(before);
  const { middle, chain } = await makeAuthority();
  const memory: number[] = [];
  let tried = 0;

  for (let round = 0; round < rounds; round++) {
    for (const node of [primary, secondary]) {
      const peer = node === primary ? secondary : primary;
      const names = [peer.host];
      const [own, alike, expired, others] = [
        await issue({ names: ["stranger.example.com"] }),
        await issue({ names }),
        await issue({ names, from: -20, to: -1 }),
        await issue({ names, issuer: middle }),
      ];
      const there = { host: node.host, port: node.port };
      const strangers: [string, Knock][] = [
        ["no certificate", there],
        ["one of its own", { ...there, ...pick(own) }],
        ["one of the peer's name", { ...there, ...pick(alike) }],
        ["an expired one of the peer's name", { ...there, ...pick(expired) }],
        ["another authority's of the peer's name", { ...there, cert: others.cert + chain, key: others.key }],
        ["the server's own", { ...there, ...identityOf(node) }],
        ["the peer's, by TLS 1.2", { ...there, ...identityOf(peer), maxVersion: "TLSv1.2" }],
        ["no certificate, by TLS 1.2", { ...there, maxVersion: "TLSv1.2" }],
      ];
      const knocks = Array.from({ length: perRound }, (_, i) => strangers[i % strangers.length]);
      for (let at = 0; at < knocks.length; at += 8) {
        await Promise.all(
          knocks.slice(at, at + 8).map(async ([who, how]) => {
            assert.equal(await knock(how), "", `${who} was answered`);
          }),
        );
      }
      const nonsense = ["GET /v1/peer HTTP/1.1\r\n\r\n", "\x16\x03\x01\x40\x00\x01", "\x00".repeat(70_000), ""];
      for (const bytes of nonsense) assert.equal(await babble(node, bytes), "");
      tried += knocks.length + nonsense.length;
      // The peer itself is let in all the while: what refuses is not a listener that is down.
      assert.equal(await ask({ ...there, ...identityOf(peer) }), 200);
      assert.ok(node.isRunning);
    }
    await changePassword(primary.app(pair.target), round + 1, 1);
    await waitEqual(primary.superuser, secondary.superuser);
    memory.push(Math.max(primary.memoryMb(), secondary.memoryMb()));
  }
  // Those who never say anything are not waited for, and do not keep the peer out.
  const silent = Array.from({ length: 300 }, () => connect(primary.port, primary.host));
  for (const socket of silent) socket.on("error", () => {}).resume();
  const closed = silent.map((socket) => new Promise((done) => socket.once("close", done)));
  assert.equal(await ask({ host: primary.host, port: primary.port, ...identityOf(secondary) }), 200);
  await Promise.all(closed);

  assert.equal(await stream(), before, "the change stream was broken");
  const growth = memory[rounds - 1] - memory[0];
  assert.ok(growth < roomMb, `after ${tried} knocks: ${memory.map((mb) => mb.toFixed(0)).join(", ")} MB`);
  for (const node of [primary, secondary]) {
    const { peer, alerts } = await node.status();
    assert.ok(peer.reachable);
    assert.deepEqual(alerts.filter(({ severity }) => severity === "error"), []);
  }
  await assertNoLeaks(pair);
}, { timeoutMs: 400_000 });

function pick({ cert, key }: { cert: string; key: string }) {
  return { cert, key };
}
