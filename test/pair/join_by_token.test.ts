// A secondary that gets its pack from the primary itself, by token: over a slow link that is cut and a command that is
// killed, and whatever is wrong with the token: refused, and nothing touched.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { makeIdentity } from "../../agent/trust/certificates.ts";
import { decodeToken, encodeToken, type JoinToken } from "../../agent/trust/token.ts";
import { Link } from "../helpers/link.ts";
import { failover, type Pair, planPair, setupPrimary, waitSteady } from "../helpers/pair.ts";
import { executable, runAgent } from "../helpers/pair_node.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

/** Slow enough to be cut in the middle; the pack of an empty cluster has some 40 MB. */
const bytesPerSecond = 6_000_000;

async function servingPrimary(scope: Scope, pair: Pair): Promise<void> {
  const { primary } = pair;
  await setupPrimary(pair);
  primary.configure({ failover, node: { listen: primary.name } });
  primary.start();
  await primary.waitServing(60_000);
  await primary.app(pair.target).unsafe(
    "CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 1000) i",
  ).simple();
  await primary.agent(["pack", "create"]);
  scope.account(() => `the primary's trust folder: ${join(primary.home, "conf", "tls", "trust")}`);
}

const makeToken = async (pair: Pair, expires = "1h") =>
  (await pair.primary.agent(["token", "--expires", expires])).stdout.trim();

function setupArgs(pair: Pair, from: string, token: string, home = pair.secondary.home): string[] {
  const { secondary, binDir, keyFile } = pair;
  return [
    ...["setup", "secondary", "--from", from, "--token", token, "--pgdata", secondary.pgdata],
    ...["--pg-bin", binDir, "--pg-port", String(secondary.pgPort), "--key", keyFile, "--home", home],
  ];
}

/** What a bare TLS client gets for a request of the pack. */
async function bareRequest(pair: Pair, tls: ConnectionOptions): Promise<string> {
  const { host, port } = pair.primary;
  const socket = connectTls({ host, port, rejectUnauthorized: false, servername: "", ...tls });
  let said = "";
  socket.on("error", () => {}); // refused: the end is what counts
  socket.on("data", (data) => said += data);
  socket.write("GET /v1/pack HTTP/1.1\r\nhost: x\r\nrange: bytes=0-9\r\nconnection: close\r\n\r\n");
  await new Promise((done) => socket.once("close", done));
  return said;
}

scopedTest("the pack comes over a link that is cut, in two commands, and the token is good once", async (scope) => {
  const pair = await planPair(scope);
  const { primary, secondary } = pair;
  await servingPrimary(scope, pair);
  const { link, toB } = await Link.open(scope, secondary, primary);
  const from = `https://${toB.host}:${toB.port}`;
  const token = await makeToken(pair);
  const packBytes = statSync(join(primary.home, "replication", "HAPack.zip")).size;
  const part = join(secondary.home, "replication", "HAPack.download");
  const arrived = () => existsSync(part) ? statSync(part).size : 0;
  const waitArrived = (bytes: number) =>
    waitFor(() => arrived() > bytes, { what: `${bytes} bytes of the pack to arrive`, deadlineMs: 60_000, everyMs: 20 });

  link.slow({ bytesPerSecond });
  const first = spawn(executable, setupArgs(pair, from, token), { cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  first.stderr.on("data", (chunk) => said += chunk);
  await waitArrived(packBytes * 0.2);
  link.reset();
  await waitArrived(packBytes * 0.4);
  assert.match(said, /again in 0\.5 s, from byte \d+ of \d+/, "the cut is told");
  first.kill("SIGKILL");
  await once(first, "close");
  const before = arrived();
  assert.ok(before < packBytes, "killed before the end");
  assert.ok(!existsSync(secondary.pgdata), "nothing is touched before all is there");

  // The link is slow no more: what is left comes at once.
  link.slow({});
  const ran = await runAgent(setupArgs(pair, from, token), { timeoutMs: 240_000 });
  assert.equal(ran.code, 0, ran.stderr);
  const kept = Number(/pack downloaded: \d+ MB, (\d+) MB of it before/.exec(ran.stdout)?.[1]);
  assert.ok(kept >= Math.floor(packBytes * 0.4 / 1e6), `${kept} MB were kept of ${before} bytes: ${ran.stdout}`);
  assert.match(ran.stdout, /joined: the primary knows this server's certificate/);
  assert.ok(!ran.stdout.includes(token) && !ran.stderr.includes(token), "the token is not repeated");
  assert.ok(!existsSync(part), "the download is cleared away");

  const trust = join(primary.home, "conf", "tls", "trust");
  const own = readFileSync(join(secondary.home, "conf", "tls", "node.crt"), "utf8");
  assert.equal(readFileSync(join(trust, "peer.crt"), "utf8"), own, "the secondary's own certificate is pinned");
  assert.ok(!existsSync(join(trust, "token.crt")) && !existsSync(join(trust, "join.crt")), "both are retired");

  const third = setupArgs(pair, from, token, join(scope.dir, "third"));
  const again = await runAgent([...third, "--replace"]);
  assert.equal(again.code, 3, again.stderr);
  assert.match(again.stderr, /^Cannot use the token: .* does not let it in; it was used, expired or replaced\nTry: /);
  const late = await primary.agent(["token"], { expect: 3 });
  assert.match(late.stderr, /a secondary has joined[\s\S]*pack create \(--replace/);
  assert.equal(await bareRequest(pair, decodeToken(token).identity), "", "the used token opens nothing");

  secondary.configure({ failover, node: { listen: secondary.name } });
  secondary.start();
  await waitSteady(pair);
  await primary.app(pair.target)`INSERT INTO item VALUES (1001, 'after the join')`;
  await waitFor(
    async () => (await secondary.superuser`SELECT count(*)::int AS n FROM item`)[0].n === 1001,
    { what: "all rows on the secondary", deadlineMs: 30_000 },
  );
  const log = readFileSync(primary.logFile, "utf8");
  assert.ok(!log.includes(token) && log.includes("a token was made"), "the log tells of the token, not the token");
}, { timeoutMs: 400_000 });

scopedTest(
  "a token that is missing, malformed, expired or of another primary: refused, nothing touched",
  async (scope) => {
    const pair = await planPair(scope);
    const { primary, secondary } = pair;
    await servingPrimary(scope, pair);
    const from = `https://${primary.name}`;
    const token = await makeToken(pair);
    const { identity, primary: certificate } = decodeToken(token);
    // Something of worth where the copy would go: it must stay, though --replace would move it aside.
    mkdirSync(secondary.pgdata, { mode: 0o700 });
    writeFileSync(join(secondary.pgdata, "of worth"), "x");
    const refused = async (what: string, code: number, says: RegExp, args: string[]) => {
      const ran = await runAgent([...args, "--replace"]);
      assert.equal(ran.code, code, `${what}: ${ran.stderr}${ran.stdout}`);
      assert.match(ran.stderr, says, what);
      assert.match(ran.stderr, /\nTry: \S/, what);
      assert.ok(!ran.stderr.includes(token), `${what}: the token is not repeated`);
      assert.equal(readFileSync(join(secondary.pgdata, "of worth"), "utf8"), "x", what);
      assert.ok(!existsSync(join(secondary.home, "conf", "agent.toml")), `${what}: nothing was set up`);
    };
    const args = (word: string, at = from) => setupArgs(pair, at, word);
    const without = args("-").filter((word, i, all) => word !== "--token" && all[i - 1] !== "--token");
    await refused("no token", 2, /--from needs --token/, without);
    await refused(
      "no URL",
      2,
      /--token needs --from/,
      args(token).filter((w, i, all) => ![w, all[i - 1]].includes("--from")),
    );
    await refused("a pack and a primary", 2, /a pack file and a primary/, [...args(token), "--pack", "/x.zip"]);
    await refused("half a token", 2, /Cannot use the token: it is not whole/, args(token.slice(0, -20)));
    await refused("no token at all", 2, /Cannot use the token: it does not begin as one/, args("secret"));
    await refused("plain http", 2, /https:/, args(token, `http://${primary.name}`));
    await refused("nobody there", 4, /Cannot reach 127\.0\.0\.3/, args(token, `https://127.0.0.3:${primary.port}`));

    const other = await makeIdentity("127.0.0.1");
    const forged = (change: Partial<JoinToken>) => encodeToken({ primary: certificate, identity, ...change });
    await refused("another certificate", 3, /does not hold the certificate/, args(forged({ primary: other.cert })));
    await refused("a made-up bearer", 3, /does not let it in/, args(forged({ identity: other })));

    const short = await makeToken(pair, "1s");
    const expiry = Date.parse(JSON.parse((await primary.agent(["token", "--expires", "1s", "--json"])).stdout).expires);
    await refused("one that was replaced", 3, /does not let it in/, args(short));
    await refused("the one before", 3, /does not let it in/, args(token));
    const lapsing = await makeToken(pair, "2s");
    assert.match(await bareRequest(pair, decodeToken(lapsing).identity), /^HTTP\/1\.1 206 /, "good while it is new");
    await waitFor(() => Date.now() > expiry + 4000, { what: "the token to expire", deadlineMs: 30_000 });
    await refused("expired", 3, /does not let it in; it expired at 2/, args(lapsing));

    // Without the certificate of a token nobody gets as far as a word, whatever the name in it.
    for (const tls of [{}, await makeIdentity("hapair-token"), decodeToken(lapsing).identity]) {
      assert.equal(await bareRequest(pair, tls), "");
    }

    const pack = join(primary.home, "replication", "HAPack.zip");
    const good = await makeToken(pair);
    renameSync(pack, `${pack}.away`);
    await refused("no pack", 3, /Cannot send the pack: this primary has none\nTry: .*agent pack create/, args(good));
    const none = await primary.agent(["token"], { expect: 3 });
    assert.match(none.stderr, /this primary has none\nTry: .*agent pack create/);
    renameSync(`${pack}.away`, pack);
    await primary.superuser`UPDATE ha.pair SET generation = 'a later one'`;
    await refused("a pack of before", 3, /the newest one is being made, or was not finished/, args(good));
    await primary.stop();
    const stopped = await primary.agent(["token"], { expect: 4 });
    assert.match(stopped.stderr, /Cannot reach the agent/);
    rmSync(secondary.home, { recursive: true });
  },
  { timeoutMs: 300_000 },
);

test("the times of --expires", async () => {
  for (const word of ["", "1", "1w", "-1h", "31d", "0s"]) {
    const ran = await runAgent(["token", "--expires", word]);
    assert.equal(ran.code, 2, word);
    assert.match(ran.stderr, /time like 90s, 30m, 1h or 2d/);
  }
});
