// Whatever is wrong with what an operator gives: one clear error with a remedy, the right exit code, nothing changed.
import assert from "node:assert/strict";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { makePair, planPair, setupPrimary } from "../helpers/pair.ts";
import { type Ran, runAgent } from "../helpers/pair_node.ts";
import { postmasterPid } from "../helpers/processes.ts";
import { scopedTest } from "../helpers/scope.ts";
import { embeddedBinDir, freePort } from "../helpers/servers.ts";

/** All files below a folder with their sizes and times of change: equal before and after = nothing changed. */
function snapshot(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).sort().map((name) => {
    const { size, mtimeMs, mode } = statSync(join(folder, name));
    return `${name} ${size} ${mtimeMs} ${mode}`;
  });
}

function assertError(ran: Ran, codes: number[], says: RegExp, what: string): void {
  assert.ok(codes.includes(ran.code), `${what}: exit code ${ran.code}, not ${codes.join(" or ")}: ${ran.stderr}`);
  const lines = ran.stderr.trim().split("\n");
  assert.match(lines[0], /^Cannot .+: \S/, `${what}: ${ran.stderr}`);
  assert.match(ran.stderr, says, what);
  assert.match(lines[1] ?? "", /^Try: \S/, `${what}: ${ran.stderr}`);
  assert.equal(lines.length, 2, `${what}: two lines, and no stack trace: ${ran.stderr}`);
  assert.equal(ran.stdout.trim(), "", `${what}: nothing on standard output: ${ran.stdout}`);
}

scopedTest("malformed command lines and unusable files", async (scope) => {
  const dir = scope.dir;
  const home = join(dir, "home");
  const bin = embeddedBinDir(18);
  const key = join(dir, "good.key");
  writeFileSync(key, "0123456789abcdef".repeat(4), { mode: 0o600 });
  const file = (name: string, text: string, mode = 0o600) => {
    writeFileSync(join(dir, name), text, { mode });
    chmodSync(join(dir, name), mode);
    return join(dir, name);
  };
  mkdirSync(join(dir, "not-a-cluster"));
  file("not-a-cluster/file", "x");
  const old = join(dir, "old-cluster");
  mkdirSync(old, { mode: 0o700 });
  file("old-cluster/PG_VERSION", "12\n");
  const data = join(dir, "data");
  const primary = ["setup", "primary", "127.0.0.1:18282", "127.0.0.2:18282"];
  const usable = ["--pgdata", data, "--pg-bin", bin, "--key", key, "--pg-port", String(await freePort())];
  const cases: [what: string, args: string[], codes: number[], says: RegExp][] = [
    ["an unknown command", ["sing"], [2], /sing/],
    ["an unknown option", [...primary, "--loud"], [2], /--loud/],
    ["an unknown setup", ["setup", "tertiary"], [2], /tertiary/],
    ["no secondary", ["setup", "primary", "a.example.com"], [2], /secondary/],
    ["a third name", [...primary, "c.example.com"], [2], /argument/],
    ["a name that is none", ["setup", "primary", "a b", "c", ...usable], [2], /a b/],
    ["a port out of range", ["setup", "primary", "a:70000", "b", ...usable], [2], /70000/],
    ["both the same", ["setup", "primary", "a.example.com", "a.example.com:8282", ...usable], [2], /same/],
    ["neither --pgdata nor --database", [...primary, "--key", key], [2], /pgdata|server/],
    ["both --pgdata and --database", [...primary, ...usable, "--database", "postgres://x/y"], [2], /two|both/],
    ["--database that is no URL", [...primary, "--database", "nonsense", "--key", key], [2], /URL/],
    ["an option without value", [...primary, "--pgdata"], [2], /pgdata/],
    ["an empty value", [...primary, "--pgdata", "", "--key", key], [2], /empty/],
    ["--pg-port that is no number", [...primary, ...usable, "--pg-port", "x1"], [2], /port/],
    ["--pg-port out of range", [...primary, ...usable, "--pg-port", "65536"], [2], /port/],
    ["--pg-bin without programs", [...primary, "--pgdata", data, "--pg-bin", dir, "--key", key], [2], /program/],
    [
      "--pgdata that is no cluster",
      [...primary, ...usable, "--pgdata", join(dir, "not-a-cluster")],
      [2],
      /neither empty nor/,
    ],
    ["--pgdata of another version", [...primary, ...usable, "--pgdata", old], [1, 2, 3], /version 12/],
    ["no key", [...primary, "--pgdata", data, "--pg-bin", bin], [2], /key/],
    ["a key that is not there", [...primary, ...usable, "--key", join(dir, "none.key")], [1, 2], /none\.key/],
    [
      "a key that others can read",
      [...primary, ...usable, "--key", file("open.key", "x".repeat(40), 0o644)],
      [1, 2],
      /open\.key.*(mode|read)/,
    ],
    ["a key that is too short", [...primary, ...usable, "--key", file("short.key", "abc")], [1, 2], /short\.key/],
    ["--config that is not there", [...primary, ...usable, "--config", join(dir, "none.toml")], [1, 2], /none\.toml/],
    [
      "--config with a syntax error",
      [...primary, ...usable, "--config", file("bad.toml", "[failover\nx=1")],
      [2],
      /line 1/,
    ],
    ["--config with an unknown key", [...primary, ...usable, "--config", file("odd.toml", "[failover]\nafter = 1\n")], [
      2,
    ], /failover/],
    [
      "an address that is not of this machine",
      ["setup", "primary", "192.0.2.1", "192.0.2.2", ...usable],
      [1, 2, 3],
      /192\.0\.2\.1/,
    ],
    ["no pack", ["setup", "secondary", "--pgdata", data, "--key", key], [2], /pack/],
    [
      "a pack that is not there",
      ["setup", "secondary", "--pack", join(dir, "none.zip"), "--pgdata", data, "--key", key],
      [1, 2],
      /none\.zip/,
    ],
    [
      "a pack that is none",
      ["setup", "secondary", "--pack", file("text.zip", "hello".repeat(50)), "--pgdata", data, "--key", key],
      [1, 2],
      /text\.zip/,
    ],
    [
      "an empty pack",
      ["setup", "secondary", "--pack", file("empty.zip", ""), "--pgdata", data, "--key", key],
      [1, 2],
      /empty\.zip/,
    ],
    ["run without setup", ["run"], [1, 2], /agent\.toml/],
    ["status without an agent", ["status"], [4], /agent/],
    ["conflicts without an agent", ["conflicts", "list"], [2, 4], /./],
    ["pack create without setup", ["pack", "create"], [1, 2, 3], /./],
    ["pack inspect of nothing", ["pack", "inspect", join(dir, "none.zip")], [1, 2], /none\.zip/],
  ];
  const problems: string[] = [];
  for (const [what, args, codes, says] of cases) {
    try {
      assertError(await runAgent([...args, "--home", home]), codes, says, what);
      assert.deepEqual(snapshot(home), [], `${what}: the home is untouched`);
      assert.ok(!existsSync(data), `${what}: no cluster was made`);
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  }
  assert.deepEqual(problems, []);
  assertError(await runAgent(["status", "--home", file("a-file", "x")]), [1, 2, 4], /./, "a home that is a file");
  assertError(
    await runAgent([...primary, ...usable, "--home", join(dir, "a-file")]),
    [1, 2],
    /a-file/,
    "setup into a file",
  );
  assert.equal((await runAgent([])).code, 2, "no command");
  const help = await runAgent(["--help"]);
  assert.equal(help.code, 0);
  for (const word of ["setup", "run", "status", "pack"]) assert.match(help.stdout, new RegExp(`\\b${word}\\b`));
});

scopedTest("malformed agent.toml", async (scope) => {
  const home = join(scope.dir, "home");
  mkdirSync(join(home, "conf"), { recursive: true });
  const toml = join(home, "conf", "agent.toml");
  const good =
    `[node]\nname = "a"\nrole = "primary"\n[peer]\nname = "b"\naddress = "b:1"\n[postgres]\npgdata = "/nowhere"\n`;
  const cases: [what: string, text: string, says: RegExp][] = [
    ["empty", "", /node/],
    ["a syntax error", good + "x = = 1", /line 9/],
    ["an unknown key", good + "nonsense = 1", /nonsense/],
    ["a wrong role", good.replace("primary", "third"), /role/],
    ["an address without port", good.replace("b:1", "b"), /address/],
    ["after_ms too short", good + "[failover]\nheartbeat_ms = 500\nafter_ms = 600", /after_ms/],
    ["no database", good.replace(`pgdata = "/nowhere"`, ""), /pgdata/],
  ];
  for (const [what, text, says] of cases) {
    writeFileSync(toml, text);
    const ran = await runAgent(["run", "--home", home], { timeoutMs: 20_000 });
    assertError({ ...ran, stdout: "" }, [2], says, what);
    assert.equal(readFileSync(toml, "utf8"), text);
  }
});

scopedTest("packs that are truncated, tampered with, of another key or another version", async (scope) => {
  const pair = await planPair(scope);
  const { primary, secondary } = pair;
  await setupPrimary(pair);
  const whole = join(primary.home, "replication", "HAPack.zip");
  const bytes = readFileSync(whole);
  const broken = (name: string, change: (path: string) => void) => {
    const path = join(scope.dir, name);
    copyFileSync(whole, path);
    change(path);
    return path;
  };
  const flip = (at: number) => (path: string) => {
    const copy = Uint8Array.from(bytes);
    copy[at] ^= 0x40;
    writeFileSync(path, copy);
  };
  const otherKey = join(scope.dir, "other.key");
  writeFileSync(otherKey, "f".repeat(64), { mode: 0o600 });
  // A folder with something of worth in it: it must stay as it is, whatever is wrong with the pack.
  mkdirSync(secondary.pgdata, { mode: 0o700 });
  writeFileSync(join(secondary.pgdata, "of worth"), "x");
  const cases: [what: string, pack: string, key: string, bin: string][] = [
    [
      "truncated in the middle",
      broken("half.zip", (p) => truncateSync(p, bytes.length >> 1)),
      pair.keyFile,
      pair.binDir,
    ],
    ["without its last byte", broken("short.zip", (p) => truncateSync(p, bytes.length - 1)), pair.keyFile, pair.binDir],
    ["one bit of the data changed", broken("flip.zip", flip(bytes.length >> 1)), pair.keyFile, pair.binDir],
    [
      "one bit near the end of the data changed",
      broken("late.zip", flip(Math.floor(bytes.length * 0.98))),
      pair.keyFile,
      pair.binDir,
    ],
    ["the manifest changed", broken("manifest.zip", flip(bytes.indexOf("pair_id") + 14)), pair.keyFile, pair.binDir],
    ["another key", whole, otherKey, pair.binDir],
    ["programs of another version", whole, pair.keyFile, embeddedBinDir(15)],
  ];
  for (const [what, pack, key, bin] of cases) {
    const before = snapshot(secondary.pgdata);
    const ran = await runAgent([
      ...["setup", "secondary", "--pack", pack, "--pgdata", secondary.pgdata, "--pg-bin", bin, "--key", key],
      ...["--pg-port", String(secondary.pgPort), "--replace", "--home", secondary.home],
    ]);
    assertError({ ...ran, stdout: "" }, [1, 2, 3], /./, what);
    assert.deepEqual(snapshot(secondary.pgdata), before, `${what}: the data is untouched`);
    assert.ok(!existsSync(join(secondary.home, "conf", "agent.toml")), `${what}: nothing was set up`);
    const leftovers = readdirSync(scope.dir).filter((name) =>
      name.startsWith("secondary-data") && name !== "secondary-data"
    );
    assert.deepEqual(leftovers, [], `${what}: nothing is left behind`);
  }
  const occupied = await runAgent([
    ...[
      "setup",
      "secondary",
      "--pack",
      whole,
      "--pgdata",
      secondary.pgdata,
      "--pg-bin",
      pair.binDir,
      "--key",
      pair.keyFile,
    ],
    ...["--pg-port", String(secondary.pgPort), "--home", secondary.home],
  ]);
  assertError({ ...occupied, stdout: "" }, [1, 2, 3], /--replace/, "data in the way, and no --replace");
}, { timeoutMs: 180_000 });

scopedTest("a port that is taken: the agent says which, and leaves nothing running", async (scope) => {
  const pair = await planPair(scope);
  const { primary } = pair;
  await setupPrimary(pair);
  for (const port of [primary.port, primary.pgPort]) {
    const squatter = createServer();
    await new Promise<void>((done) => squatter.listen(port, primary.host, done));
    try {
      const ran = await primary.agent(["run"], { expect: 1, timeoutMs: 60_000 });
      assert.match(ran.stderr, new RegExp(`Cannot .*${port}`), "the port is named");
      assert.match(ran.stderr, /^Try: /m);
      assert.equal(postmasterPid(primary.pgdata), undefined, "no PostgreSQL is left running");
    } finally {
      await new Promise<void>((done) => squatter.close(() => done()));
    }
  }
  // Free again, the same home works: nothing was spoiled.
  primary.start();
  await primary.waitServing();
  assertError(
    await runAgent(["run", "--home", primary.home], { timeoutMs: 30_000 }),
    [1, 3],
    /run|agent/i,
    "a second agent",
  );
  assert.ok(primary.isRunning);
}, { timeoutMs: 180_000 });

scopedTest("a secondary that is led to another pair's primary gets nowhere, and does no harm there", async (scope) => {
  const pair = await makePair(scope);
  const other = await planPair(scope, { name: "other" });
  await setupPrimary(other);
  other.primary.start();
  await other.primary.waitServing();
  await pair.primary.stop();
  await pair.secondary.stop();
  pair.secondary.configure({ peer: { address: other.primary.name } });
  pair.secondary.start();
  // Its own primary still reaches it, so it knows that it must not take over; but it says that nothing flows.
  await pair.secondary.waitStatus(
    "in standby, with an alert that its changes do not flow",
    (s) => s.node.state === "standby" && s.alerts.some(({ message }) => /certificate/i.test(message)),
  );
  const { peer } = await other.primary.status();
  assert.equal(peer.reachable, false, "it is not taken for this pair's secondary");
  const refused = readFileSync(pair.secondary.logFile, "utf8");
  assert.match(refused, /certificate|another pair|refused/i, "the log says why");
}, { timeoutMs: 180_000 });
