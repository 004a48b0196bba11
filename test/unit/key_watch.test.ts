// The master key while a node runs: every way in which it can go bad is told, nothing of it is shown, and it is good again
// once it is mended. The print tells an exchanged key.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { RefusedError, UsageError } from "../../agent/errors.ts";
import { homeAt } from "../../agent/home.ts";
import { createKey, readKeyFile, writeKeyPath } from "../../agent/trust/key.ts";
import { isPrintOf, printOf, readPrint, rememberKey } from "../../agent/trust/key_print.ts";
import { KeyLooker, requireKey, startKey } from "../../agent/trust/key_watch.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";

function makeHome(scope: Scope) {
  const home = homeAt(join(scope.dir, "home"));
  mkdirSync(join(home.root, "conf"), { recursive: true });
  const path = join(scope.dir, "master.key");
  const key = createKey(path);
  writeKeyPath(home, path);
  rememberKey(home, key);
  return { home, path, key, looker: new KeyLooker(home, 60_000) };
}

scopedTest("a good key is found, and again after each way of going bad", async (scope) => {
  const { home, path, key, looker } = makeHome(scope);
  const good = readFileSync(path);
  const line = readFileSync(home.manageKeyFile, "utf8");
  const other = `ENCRYPTIONKEY=${randomBytes(32).toString("base64")}\n`;
  const mend = () => {
    rmSync(path, { recursive: true, force: true });
    writeFileSync(path, good, { mode: 0o600 });
    writeFileSync(home.manageKeyFile, line);
  };
  const spoilt: [string, () => void, RegExp][] = [
    ["missing", () => rmSync(path), /^Cannot read key .*ENOENT/],
    ["open to others", () => chmodSync(path, 0o640), /others may read it \(mode 0640\)/],
    ["emptied", () => writeFileSync(path, ""), /it has 0 bytes/],
    ["malformed", () => writeFileSync(path, "ENCRYPTIONKEY=%%%\n"), /not of the form/],
    ["exchanged", () => writeFileSync(path, other), /not the key that this node was set up with/],
    ["a folder", () => (rmSync(path), mkdirSync(path)), /^Cannot (read|use) key /],
    ["no manage_key.conf", () => rmSync(home.manageKeyFile), /^Cannot read .*manage_key\.conf/],
    ["two lines", () => writeFileSync(home.manageKeyFile, line + line), /it has 2 lines instead of one/],
    ["no full path", () => writeFileSync(home.manageKeyFile, "master.key\n"), /its line is not a full path/],
    ["a path to nothing", () => writeFileSync(home.manageKeyFile, "/no/such/key\n"), /Cannot read key \/no\/such\/key/],
  ];
  if (process.platform !== "win32") {
    spoilt.push(["a pipe", () => (rmSync(path), execFileSync("mkfifo", [path])), /it is not a file/]);
  }
  for (const [name, spoil, problem] of spoilt) {
    spoil();
    const look = await looker.look();
    assert.match(look.problem ?? "no problem", problem, name);
    assert.equal(look.key, null);
    assert.ok(look.remedy);
    const shown = JSON.stringify(look);
    assert.ok(!shown.includes(key.bytes.toString("base64").slice(0, 10)), `${name}: the key is shown`);
    assert.throws(
      () => requireKey(home),
      (error: unknown) => error instanceof UsageError || error instanceof RefusedError,
    );
    mend();
    assert.equal((await looker.look()).problem, null, `${name}: mended`);
    assert.deepEqual(requireKey(home).bytes, key.bytes);
  }
});

scopedTest("a drive that breaks off after the key file was opened is told like a key that is gone", async (scope) => {
  const { home, path } = makeHome(scope);
  const fail = (what: string) => () => {
    throw Object.assign(new Error(`EIO: i/o error, ${what}`), { code: "EIO", syscall: what });
  };
  const size = { isFile: () => true, mode: 0o100600, size: 60 };
  for (const what of ["fstat", "read", "close"]) {
    const broken = {
      stat: what === "fstat" ? fail(what) : () => Promise.resolve(size),
      read: what === "read" ? fail(what) : () => Promise.resolve({ bytesRead: 60 }),
      close: what === "close" ? fail(what) : () => Promise.resolve(),
    };
    const looker = new KeyLooker(home, 60_000, (() => Promise.resolve(broken)) as unknown as typeof open);
    const look = await looker.look();
    assert.match(look.problem ?? "no problem", /^Cannot read key .*: EIO: i\/o error/, what);
    assert.equal(look.path, path);
  }
  const files = { stat: statSync as never, read: (() => 60) as never };
  const unread = (error: unknown) => error instanceof UsageError && /^Cannot read key .*: EIO/.test(error.message);
  assert.throws(() => readKeyFile(path, { ...files, stat: fail("fstat") as never }), unread);
  assert.throws(() => readKeyFile(path, { stat: (() => size) as never, read: fail("read") as never }), unread);
});

scopedTest("a key that has moved is found by the changed line alone", async (scope) => {
  const { home, path, key, looker } = makeHome(scope);
  const moved = join(scope.dir, "moved.key");
  renameSync(path, moved);
  assert.match((await looker.look()).problem!, /ENOENT/);
  writeKeyPath(home, moved);
  const look = await looker.look();
  assert.equal(look.path, moved);
  assert.deepEqual(look.key!.bytes, key.bytes);
});

scopedTest("an exchanged key is refused at the start until it is accepted", (scope) => {
  const { home, path } = makeHome(scope);
  rmSync(path);
  const other = createKey(path);
  assert.throws(() => startKey(home), /not the key that this node was set up with/);
  rememberKey(home, other);
  assert.deepEqual(startKey(home).bytes, other.bytes);
  return Promise.resolve();
});

scopedTest("a home without a print gets one at the first start; a damaged one is said so", (scope) => {
  const { home, key } = makeHome(scope);
  rmSync(home.keyPrintFile);
  assert.equal(readPrint(home), null);
  startKey(home);
  assert.ok(isPrintOf(key, readPrint(home)!));
  if (process.platform !== "win32") assert.equal(statSync(home.keyPrintFile).mode & 0o777, 0o600);
  writeFileSync(home.keyPrintFile, "abc\n");
  assert.throws(() => startKey(home), /Cannot read .*key_print: it is not as it was written/);
  return Promise.resolve();
});

scopedTest("a print fits its key only: any bit of the key changes it", (scope) => {
  const { key } = makeHome(scope);
  const print = printOf(key);
  assert.ok(isPrintOf(key, print));
  for (let bit = 0; bit < key.bytes.length * 8; bit++) {
    const bytes = Buffer.from(key.bytes);
    bytes[bit >> 3] ^= 1 << (bit & 7);
    assert.ok(!isPrintOf({ path: "/k", bytes }, print));
  }
  assert.notDeepEqual(printOf(key).print, print.print);
  return Promise.resolve();
});
