// A secondary that is cut off from its primary is made anew with one command, over a link that breaks; refused where that
// could lose something; what it had is kept aside.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeJoinIdentity } from "../../agent/trust/certificates.ts";
import { waitEqual } from "../helpers/equality.ts";
import { makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

scopedTest("agent reseed", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    failover: { peer_wait_ms: 8000 },
    load: async (app) => {
      await app.unsafe("CREATE TABLE item (id int PRIMARY KEY, name text)").simple();
      await app`INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 500) i`;
    },
  });
  const { primary, secondary, link } = pair;
  const running = await secondary.agent(["reseed"], { expect: 3 });
  assert.match(running.stderr, /^Cannot reseed: the agent of this node runs\nTry: stop it first/);
  const wrong = await primary.agent(["reseed"], { expect: 3 });
  assert.match(wrong.stderr, /the agent of this node runs|this is the primary/);

  // A new pack cuts the secondary off: only a reseed helps.
  await primary.agent(["pack", "create", "--replace"]);
  await primary.app(pair.target)`INSERT INTO item SELECT i, 'later ' || i FROM generate_series(501, 900) i`;
  await secondary.waitStatus("without its primary", (s) => !s.peer.reachable, 60_000);
  await secondary.stop();
  const toml = join(secondary.home, "conf", "agent.toml");
  const configured = readFileSync(toml, "utf8");
  const certificate = readFileSync(join(secondary.home, "conf", "tls", "node.crt"), "utf8");

  const state = join(secondary.home, "run", "state.json");
  const record = readFileSync(state, "utf8");
  writeFileSync(state, JSON.stringify({ ...JSON.parse(record), state: "serving" }));
  const risky = await secondary.agent(["reseed"], { expect: 3 });
  assert.match(risky.stderr, /may hold changes that the primary has not: it was serving.*\nTry: .*--force/);
  writeFileSync(state, record);

  // A renewal that the secondary has not heard of waits until it is back.
  await primary.agent(["cert", "renew", "--timeout", "1"], { expect: 4 });
  const renewed = async () => JSON.parse((await primary.agent(["cert", "show", "--json"])).stdout);
  const before = await renewed();
  assert.equal(before.renewal.phase, "announced");

  await primary.stop();
  const alone = await secondary.agent(["reseed"], { expect: 4 });
  assert.match(alone.stderr, /^Cannot reach /);
  assert.ok(existsSync(join(secondary.pgdata, "PG_VERSION")), "nothing was touched");

  // A primary that has just started looks for its secondary first: the reseed waits until it serves.
  primary.start();
  await primary.waitStatus("about to look for its secondary", (s) => s.node.state === "starting");
  link.slow({ bytesPerSecond: 20_000_000 });
  const part = join(secondary.home, "replication", "HAPack.download");
  const reseeding = secondary.agent(["reseed"], { timeoutMs: 240_000 });
  await Promise.race([
    reseeding, // if it fails, it says why
    waitFor(() => existsSync(part) && statSync(part).size > 5_000_000, {
      what: "some of the pack to arrive",
      deadlineMs: 120_000,
      everyMs: 20,
    }),
  ]);
  link.reset();
  const { stdout, stderr } = await reseeding;
  link.slow({});
  assert.match(stderr, /the primary does not serve yet: waiting until it does/);
  assert.match(stderr, /again in 0\.5 s, from byte \d+/, "the cut is told");
  for (const step of ["pack made by the primary", "pack downloaded", "recovered", "joined: the primary knows"]) {
    assert.ok(stdout.includes(step), `${step}: ${stdout}`);
  }
  const aside = readdirSync(scope.dir).filter((name) => name.startsWith("secondary-data.before-"));
  assert.equal(aside.length, 1, "the former data is kept aside");
  assert.ok(!existsSync(part) && !existsSync(state), "neither the download nor the former state is left");
  const own = readFileSync(toml, "utf8");
  for (const line of configured.split("\n").filter((each) => /^(address|listen|port|name|heartbeat_ms) /.test(each))) {
    assert.ok(own.includes(line), `agent.toml has kept ${line}`);
  }
  assert.equal(readFileSync(join(secondary.home, "conf", "tls", "node.crt"), "utf8"), certificate);

  secondary.start();
  await waitSteady(pair);
  await waitFor(async () => (await renewed()).renewal === null, {
    what: "the end of the renewal",
    deadlineMs: 60_000,
    everyMs: 250,
  });
  assert.equal((await renewed()).own.fingerprint, before.next.fingerprint);
  await primary.app(pair.target)`INSERT INTO item VALUES (1000, 'after the reseed')`;
  await waitEqual(primary.superuser, secondary.superuser);

  // However a join was left open, it is over once the secondary is the one that the newest pack was made for.
  const opened = join(primary.home, "conf", "tls", "trust", "join.crt");
  assert.ok(!existsSync(opened), "the join of the reseed is over");
  writeFileSync(opened, (await makeJoinIdentity()).cert);
  await waitFor(() => !existsSync(opened), { what: "the end of a join that nobody needs", deadlineMs: 30_000 });
  await waitSteady(pair);
}, { timeoutMs: 400_000 });
