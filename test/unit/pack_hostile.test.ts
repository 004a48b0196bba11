// Packs that are wrong in one respect, most of them sealed with the right key: each is refused, and what is where the copy
// would go stays as it is, with nothing left beside it.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { packTar, type TarEntry } from "modern-tar";
import { RefusedError, UsageError } from "../../agent/errors.ts";
import { homeAt } from "../../agent/home.ts";
import { AlteredPackError } from "../../agent/pack/altered.ts";
import { openPack } from "../../agent/pack/open.ts";
import { refuseInside } from "../../agent/pack/outside.ts";
import { setupSecondary } from "../../agent/setup/secondary.ts";
import { Steps } from "../../agent/setup/steps.ts";
import { readKeyFile } from "../../agent/trust/key.ts";
import {
  file,
  files,
  type Listed,
  listOf,
  membersOf,
  packMembers,
  type PackParts,
  wal,
  type ZipMember,
  zipOf,
} from "../helpers/hand_made_pack.ts";

const key = { path: "/key", bytes: Buffer.alloc(32, 1) };
let folder: string, place: string, good: Buffer, members: Map<string, Buffer>;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "ha-hostile-"));
  place = join(folder, "place");
  mkdirSync(join(place, "data"), { recursive: true });
  writeFileSync(join(place, "data", "of worth"), "x");
  members = await packMembers(key);
  good = await zipOf(membersOf(members));
});
after(() => rmSync(folder, { recursive: true }));

/** Opens and extracts as setup does; returns the files as extracted. */
async function attempt(zip: Uint8Array, pgdata = join(place, "data")): Promise<Map<string, string>> {
  const path = join(folder, "HAPack.zip");
  writeFileSync(path, zip);
  const pack = await openPack(path, key);
  try {
    await pack.extract(pgdata, { user: null, replace: true });
  } finally {
    await pack.close();
  }
  const names = readdirSync(pgdata, { recursive: true, encoding: "utf8" }).sort();
  return new Map(names.map((name) => [name, join(pgdata, name)]));
}

async function refused(what: string, zip: Uint8Array, says: RegExp = /./): Promise<void> {
  await assert.rejects(attempt(zip), (error: Error) => {
    assert.ok(error instanceof UsageError, `${what}: ${error.stack}`);
    assert.match(error.message, says, what);
    return true;
  });
  untouched(what);
}

function untouched(what: string): void {
  assert.deepEqual(readdirSync(folder).sort(), ["HAPack.zip", "place"], what);
  assert.deepEqual(readdirSync(place), ["data"], what);
  assert.deepEqual(readdirSync(join(place, "data")), ["of worth"], what);
  assert.equal(readFileSync(join(place, "data", "of worth"), "utf8"), "x", what);
}

test("the pack that all others differ from is good", async () => {
  const extracted = await attempt(good, join(folder, "copy"));
  rmSync(join(folder, "copy"), { recursive: true });
  assert.ok(extracted.has("base/1/1259") && extracted.has("PG_VERSION"));
  untouched("good");
});

for (const format of [1, 2] as const) {
  test(`format ${format}: each member altered at its beginning, in its middle, at its end, or cut`, async () => {
    await alterEach(await packMembers(key, { format }));
  });
}

test("a pack of format 1 is read", async () => {
  const extracted = await attempt(await zipOf(membersOf(await packMembers(key, { format: 1 }))), join(folder, "copy"));
  rmSync(join(folder, "copy"), { recursive: true });
  assert.ok(extracted.has("base/1/1259") && extracted.has("PG_VERSION"));
  untouched("format 1");
});

async function alterEach(members: ReadonlyMap<string, Buffer>): Promise<void> {
  for (const [name, bytes] of members) {
    for (const at of [0, bytes.length >> 1, bytes.length - 1]) {
      // A line end after the code says nothing.
      if (name === "manifest.mac" && at === bytes.length - 1) continue;
      const altered = Buffer.from(bytes);
      altered[at] ^= 1;
      await refused(`${name} at ${at}`, await zipOf(membersOf(new Map(members).set(name, altered))), /Cannot open/);
    }
    if (name !== "manifest.mac") {
      await refused(`${name} cut`, await zipOf(membersOf(new Map(members).set(name, bytes.subarray(0, -1)))));
    }
    const without = new Map(members);
    without.delete(name);
    await refused(`without ${name}`, await zipOf(membersOf(without)));
  }
}

test("any bit changed and any length cut: refused, or the very same files", async () => {
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.integer({ min: 0, max: 7 }), fc.boolean(), async (n, bit, cut) => {
      const zip = Buffer.from(good);
      zip[n % zip.length] ^= 1 << bit;
      const copy = join(folder, "copy");
      try {
        const extracted = await attempt(cut ? good.subarray(0, n % good.length) : zip, copy);
        assert.ok(!cut, "a part of a pack was taken for a pack");
        assert.equal(readFileSync(extracted.get("base/1/1259")!, "latin1"), "x".repeat(9000));
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
      } finally {
        rmSync(copy, { recursive: true, force: true });
      }
      assert.deepEqual(readdirSync(folder).sort(), ["HAPack.zip", "place"]);
    }),
    { numRuns: 120 },
  );
});

test("members of another pack of the same key", async () => {
  const other = await packMembers(key, { manifest: { generation: "two" } });
  for (const name of ["data.tar.age", "backup_manifest.age", "pair.json.age", "manifest.json", "manifest.mac"]) {
    await refused(
      name,
      await zipOf(membersOf(new Map(members).set(name, other.get(name)!))),
      /altered or is not whole/,
    );
  }
});

test("zips that are no pack's", async () => {
  const own = membersOf(members);
  const more = (member: ZipMember) => zipOf([...own, member]);
  const bytes = Buffer.from("evil");
  const zeros = Buffer.alloc(50_000_000);
  const cases: [string, Promise<Buffer>, RegExp][] = [
    ["a path upwards", more({ name: "../evil", bytes }), /no whole pack/],
    ["an absolute path", more({ name: "/tmp/evil", bytes }), /no whole pack/],
    ["a path of Windows", more({ name: "..\\evil", bytes }), /no whole pack/],
    ["a file too many", more({ name: "evil", bytes }), /unexpected member "evil"/],
    ["a folder", more({ name: "evil/", bytes, options: { directory: true } }), /no whole pack/],
    ["a member twice", more({ name: "manifest.json", bytes: members.get("manifest.json")! }), /no whole pack/],
    ["the same member twice, the first evil", zipOf([{ name: "data.tar.age", bytes }, ...own]), /no whole pack/],
    [
      "a bomb: zeros that are packed well",
      zipOf(own.map((m) => m.name === "data.tar.age" ? { ...m, bytes: zeros, options: { level: 9 } } : m)),
      /not stored as it is/,
    ],
    [
      "a bomb in a member that is read whole",
      zipOf(own.map((m) => m.name === "manifest.json" ? { ...m, bytes: zeros } : m)),
      /it has 50000000 bytes/,
    ],
    [
      "a member behind a password",
      zipOf(own.map((m) => m.name === "pair.json.age" ? { ...m, options: { password: "x" } } : m)),
      /not stored as it is|no whole pack/,
    ],
    ["no member", zipOf([]), /it has no manifest/],
    ["no zip", Promise.resolve(Buffer.from("PK".repeat(500))), /no whole pack/],
  ];
  for (const [what, zip, says] of cases) await refused(what, await zip, says);
});

const sealed = async (parts: PackParts) => await zipOf(membersOf(await packMembers(key, parts)));

test("tars of one who has the key: nothing leaves the folder, and nothing is taken on trust", async () => {
  const claims = (size: number): Listed => ({ ...listOf(files), "base/1/huge": { size, sha256: "0".repeat(64) } });
  // Its header promises what does not follow.
  const promise = async (size: number, name = "base/1/huge") => {
    const tar = Buffer.from(await packTar([...files, wal, { header: { name, size: 0, type: "file" } }]));
    const at = tar.indexOf(name);
    tar.write(size.toString(8).padStart(11, "0"), at + 124, "latin1");
    tar.write("        ", at + 148, "latin1");
    let sum = 0;
    for (const byte of tar.subarray(at, at + 512)) sum += byte;
    tar.write(sum.toString(8).padStart(6, "0") + "\0 ", at + 148, "latin1");
    return tar;
  };
  const entry = (header: TarEntry["header"]) => packTar([{ header: { ...header, size: 0 } }, ...files, wal]);
  const link = (type: "symlink" | "link", name: string, linkname: string) => entry({ name, type, linkname, size: 0 });
  const cases: [string, PackParts, RegExp][] = [
    ["a path upwards", { tar: await packTar([file("../evil", "x"), ...files, wal]) }, /is not allowed/],
    ["an absolute path", { tar: await packTar([file("/tmp/evil", "x"), ...files, wal]) }, /is not allowed/],
    [
      "a path upwards that the manifest lists",
      {
        tar: await packTar([file("base/../../evil", "x"), ...files, wal]),
        listed: listOf([file("base/../../evil", "x"), ...files]),
      },
      /is not allowed/,
    ],
    ["a folder upwards", { tar: await entry({ name: "../evil/", type: "directory", size: 0 }) }, /is not allowed/],
    ["a symbolic link", { tar: await link("symlink", "base/2", "/etc") }, /base\/2 is a symlink/],
    ["a symbolic link within", { tar: await link("symlink", "base/2", "1") }, /base\/2 is a symlink/],
    ["a hard link", { tar: await link("link", "base/2", "../../evil") }, /base\/2 is a link/],
    ["a tablespace", { tar: await link("symlink", "pg_tblspc/1", "/tmp") }, /is a symlink/],
    ["a device", { tar: await entry({ name: "base/2", type: "character-device", size: 0 }) }, /is a character-device/],
    ["a pipe", { tar: await entry({ name: "base/2", type: "fifo", size: 0 }) }, /is a fifo/],
    ["a file twice", { tar: await packTar([...files, files[0], wal]) }, /is there twice/],
    [
      "a file as a folder too",
      { tar: await packTar([file("base", "x"), ...files, wal]) },
      /not in the backup manifest/,
    ],
    [
      "8 GB declared and not there",
      { tar: await promise(8_000_000_000), listed: claims(8_000_000_000) },
      /malformed|ends/,
    ],
    [
      "more declared than listed",
      { tar: await promise(5000), listed: claims(4000) },
      /5000 bytes instead of 4000|malformed/,
    ],
    [
      "something after the end",
      { tar: Buffer.concat([await packTar([...files, wal]), Buffer.from("evil")]) },
      /malformed/,
    ],
    ["a tar without an end", { tar: (await packTar([...files, wal])).subarray(0, 20_000) }, /malformed/],
    ["no tar", { tar: Buffer.from("evil") }, /malformed/],
    ["nothing", { tar: new Uint8Array() }, /./],
    ["a segment of 8 GB", { tar: await promise(8_000_000_000, "pg_wal/000000010000000000000002") }, /WAL|malformed/],
    ["another backup's manifest", { manifest: { postgres: undefined } }, /malformed at postgres/],
    ["a manifest that lists nothing", { manifest: { members: [] } }, /does not list/],
    ["another format", { manifest: { version: 3 } }, /its pack format is 3/],
    ["sums of the older format", { manifest: { version: 1 } }, /malformed at members/],
    ["the older format with sums of the newer one", { format: 1, manifest: { version: 2 } }, /malformed at members/],
    ["settings that are more than one line", { pair: { settings: { a: "1\nrestore_command = 'evil'" } } }, /malformed/],
  ];
  for (const [what, parts, says] of cases) await refused(what, await sealed(parts), says);
});

test("a large file that does not fit is found at its end, and what was written of it is gone", async () => {
  const big = file("base/1/big", Buffer.alloc(20_000_000, "y"));
  const tar = await packTar([...files, big, wal]);
  const listed = { ...listOf(files), "base/1/big": { size: 20_000_000, sha256: "0".repeat(64) } };
  await refused("a large file that does not fit", await sealed({ tar, listed }), /big does not fit its checksum/);
});

test("a pack for another pair than that of the home", async () => {
  const home = homeAt(join(place, "home"));
  const keyFile = join(place, "key");
  writeFileSync(keyFile, "0123456789abcdef".repeat(4), { mode: 0o600 });
  const zip = await zipOf(membersOf(await packMembers(readKeyFile(keyFile))));
  const path = join(folder, "HAPack.zip");
  writeFileSync(path, zip);
  mkdirSync(join(home.root, "conf"), { recursive: true });
  try {
    for (const [node, peer] of [["b", "another"], ["another", "a"]]) {
      const toml = `[node]\nname = "${node}"\nrole = "secondary"\n[peer]\nname = "${peer}"\naddress = "x:1"\n`;
      writeFileSync(home.configFile, toml);
      const options = { pack: path, pgdata: join(place, "data"), key: keyFile, replace: true };
      await assert.rejects(setupSecondary(home, options, new Steps()), (error: Error) => {
        assert.match(error.message, /it is for another pair \(a and b\).*is "another"/);
        return error instanceof RefusedError;
      });
      assert.equal(readFileSync(home.configFile, "utf8"), toml);
      assert.deepEqual(readdirSync(home.root, { recursive: true }).sort(), ["conf", join("conf", "agent.toml")]);
    }
  } finally {
    rmSync(home.root, { recursive: true });
    rmSync(keyFile);
  }
  untouched("another pair");
});

test("neither key nor pack may lie in the data folder", () => {
  const data = join(folder, "place", "data");
  assert.throws(
    () => refuseInside(data, { "the key": join(data, "conf", "key") }),
    /the key .* lies in its data folder/,
  );
  refuseInside(data, { "the key": join(folder, "key"), "the pack": join(folder, "place", "data2", "x") });
});

test("a wrong pack is told apart from a wrong key", async () => {
  const path = join(folder, "HAPack.zip");
  writeFileSync(path, good);
  await assert.rejects(openPack(path, { path: "/other", bytes: Buffer.alloc(32, 2) }), (error: Error) => {
    assert.match(error.message, /another master key than \/other/);
    return error instanceof UsageError && !(error instanceof AlteredPackError);
  });
});
