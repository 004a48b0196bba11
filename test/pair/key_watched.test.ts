// The master key of a running pair goes bad in every way and is mended, moves, is exchanged on one side and on both. Each is
// told by status and `agent key check`, nothing is restarted, replication goes on, and no log shows the key.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitEqual } from "../helpers/equality.ts";
import { makePair } from "../helpers/pair.ts";
import type { PairNode, Status } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";

type WithKey = Status & {
  key: { path: string; ok: boolean; same_as_peer: boolean | null; problem: string | null };
};

const keyOf = (status: Status) => (status as WithKey).key;
const has = (status: Status, name: string) => status.alerts.some((alert) => alert.name === name);
const waitSame = (node: PairNode, same: boolean) =>
  node.waitStatus(
    `key ${same ? "" : "not "}that of its peer`,
    (s) => keyOf(s).same_as_peer === same && has(s, "key_differs") === !same,
    60_000,
  );

scopedTest("the key is watched, and proven to be the peer's", async (scope) => {
  const pair = await makePair(scope, { load: makeVault });
  const { primary, secondary, keyFile } = pair;
  const good = readFileSync(keyFile);
  for (const node of [primary, secondary]) await waitSame(node, true);

  // The secondary's own copy in another place: the one line is changed, nothing is restarted.
  const own = join(scope.dir, "keys", "secondary.key");
  const line = join(secondary.home, "conf", "manage_key.conf");
  const put = (bytes: Buffer | string) => (rmSync(own, { force: true }), writeFileSync(own, bytes, { mode: 0o600 }));
  put(good);
  writeFileSync(line, `${own}\n`);
  await secondary.waitStatus("reading its key from the new place", (s) => keyOf(s).path === own && keyOf(s).ok);
  await waitSame(secondary, true);

  const other = `ENCRYPTIONKEY=${randomBytes(32).toString("base64")}\n`;
  const spoilt: [string, () => void, RegExp][] = [
    ["missing", () => rmSync(own), /Cannot read key/],
    ["open to others", () => chmodSync(own, 0o644), /others may read it/],
    ["malformed", () => put("ENCRYPTIONKEY=none"), /has 3 bytes/],
    ["exchanged", () => put(other), /not the key that this node was set up with/],
    ["moved", () => renameSync(own, own + ".away"), /Cannot read key/],
  ];
  for (const [name, spoil, problem] of spoilt) {
    spoil();
    const bad = await secondary.waitStatus(
      `in alarm for its key: ${name}`,
      (s) => !keyOf(s).ok && problem.test(keyOf(s).problem ?? "") && has(s, "key"),
    );
    assert.equal(bad.node.state, "standby");
    const ran = await secondary.agent(["key", "check", "--json"], { expect: 1 });
    assert.match(JSON.parse(ran.stdout).problem, problem);
    assert.match(ran.stderr, /^Cannot .*\nTry: .+\n$/);
    put(good);
    await secondary.waitStatus("content with its key again", (s) => keyOf(s).ok && !has(s, "key"));
    await waitSame(secondary, true);
  }

  // While it is bad, nothing is encrypted with it, and nothing is lost by trying.
  chmodSync(keyFile, 0o640);
  const refused = await primary.agent(["pack", "create", "--replace"], { expect: 2 });
  assert.match(refused.stderr, /others may read it \(mode 0640\)\nTry: chmod 600/);
  await primary.agent(["backup"], { expect: 2 });
  writeFileSync(keyFile, other);
  chmodSync(keyFile, 0o600);
  const exchanged = await primary.agent(["pack", "create", "--replace"], { expect: 3 });
  await primary.agent(["backup"], { expect: 3 });
  assert.match(exchanged.stderr, /not the key that this node was set up with\nTry: put the former key back/);

  // Accepted here, it is another one than the peer's, which both are told; accepted on both it is the pair's.
  await primary.agent(["key", "accept"]);
  for (const node of [primary, secondary]) await waitSame(node, false);
  const differs = await secondary.agent(["key", "check", "--json"], { expect: 1 });
  assert.equal(JSON.parse(differs.stdout).same_as_peer, false);
  put(other);
  await secondary.agent(["key", "accept"]);
  for (const node of [primary, secondary]) await waitSame(node, true);
  const fine = await primary.agent(["key", "check"]);
  assert.match(fine.stdout, /has proven that it has the same key/);

  // All that time the pair was one.
  await changePassword(primary.app(pair.target), 1, 1);
  await waitEqual(primary.superuser, secondary.superuser);

  // Without an agent the key can be checked as well, and an exchanged one is refused at the start.
  await secondary.stop();
  await primary.waitStatus("without word of the peer's key", (s) => keyOf(s).same_as_peer === null);
  assert.match((await secondary.agent(["key", "check"])).stdout, /not asked: no agent runs/);
  put(good);
  assert.match((await secondary.agent(["run"], { expect: 3 })).stderr, /not the key that this node was set up with/);
  await secondary.agent(["key", "check"], { expect: 1 });

  const logs = [primary, secondary].map((node) => readFileSync(node.logFile, "utf8")).join();
  const prints = [primary, secondary].map((node) => readFileSync(join(node.home, "conf", "key_print"), "utf8")).join();
  for (const key of [good.toString("latin1"), other]) {
    const text = key.split("=")[1].slice(0, 20);
    const hex = Buffer.from(key.slice(key.indexOf("=") + 1).replaceAll("\\", ""), "base64").toString("hex");
    for (const secret of [text, hex]) assert.ok(!(logs + prints).includes(secret), "a key is shown");
  }
}, { timeoutMs: 300_000 });
