// A pack's members are age files: what the library makes of the derived key opens them, and nothing altered passes.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { Decrypter, Encrypter, identityToRecipient } from "age-encryption";
import { decrypt, encrypt, isOtherKey } from "../../agent/pack/age.ts";
import { macFits, manifestMac, parseManifest } from "../../agent/pack/manifest.ts";
import { collect } from "../../agent/pack/streams.ts";
import { ageIdentity } from "../../agent/trust/key.ts";

const key = { path: "/key", bytes: Buffer.alloc(32, 1) };
const otherKey = { path: "/other", bytes: Buffer.alloc(32, 2) };
const plain = Buffer.alloc(150_000, "all work and no play ");

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

const sealed = (size: number) => collect(encrypt(key, pieces(plain, size)), 1 << 20, "test");
const opened = (bytes: Uint8Array, with_ = key) => collect(decrypt(with_, pieces(bytes, 4096)), 1 << 20, "test");

test("whatever the chunks, the age library opens it", async () => {
  for (const size of [7, 65_536, 150_000]) {
    const bytes = await sealed(size);
    const decrypter = new Decrypter();
    decrypter.addIdentity(ageIdentity(key));
    assert.deepEqual(Buffer.from(await decrypter.decrypt(bytes)), plain);
    assert.deepEqual(await opened(bytes), plain);
  }
});

test("sizes around a chunk, both ways beside the library", async () => {
  const chunk = 65_536;
  const recipient = await identityToRecipient(ageIdentity(key));
  for (const size of [0, 1, chunk - 1, chunk, chunk + 1, 7 * chunk, 9 * chunk + 5]) {
    const text = randomBytes(size);
    const own = await collect(encrypt(key, pieces(text, 100_000)), 1 << 20, "test");
    const decrypter = new Decrypter();
    decrypter.addIdentity(ageIdentity(key));
    assert.ok(text.equals(await decrypter.decrypt(own)), `${size} bytes, opened by the library`);
    const encrypter = new Encrypter();
    encrypter.addRecipient(recipient);
    const theirs = await encrypter.encrypt(text);
    assert.ok(text.equals(await opened(theirs)), `${size} bytes, made by the library`);
    for (const step of [1, 100, theirs.length]) {
      if (step === 1 && size > chunk) continue;
      const plain = await collect(decrypt(key, pieces(theirs, step)), 1 << 20, "test");
      assert.ok(text.equals(plain), `${size} bytes, read by ${step}`);
    }
  }
});

test("chunks moved, left out, repeated, or an empty one at the end: refused", async () => {
  const bytes = await collect(encrypt(key, pieces(Buffer.alloc(65_536 * 3, 5), 65_536)), 1 << 20, "test");
  const head = bytes.length - 3 * 65_552;
  const chunk = (n: number) => bytes.subarray(head + n * 65_552, head + (n + 1) * 65_552);
  const made = (...parts: Uint8Array[]) => Buffer.concat([bytes.subarray(0, head), ...parts]);
  assert.equal((await opened(made(chunk(0), chunk(1), chunk(2)))).length, 3 * 65_536);
  const bad = [
    made(chunk(1), chunk(0), chunk(2)),
    made(chunk(0), chunk(2)),
    made(chunk(0), chunk(1)),
    made(chunk(0), chunk(1), chunk(1), chunk(2)),
    made(chunk(0), chunk(1), chunk(2), chunk(2)),
    made(chunk(0), chunk(1), chunk(2), new Uint8Array(16)),
    made(chunk(0), chunk(1), chunk(2), new Uint8Array(3)),
    made(),
  ];
  for (const [n, file] of bad.entries()) await assert.rejects(opened(file), `case ${n}`);
  await assert.rejects(opened(Buffer.alloc(200_000, "age-encryption.org/v1\n")), /header does not end within/);
});

test("nothing is read far ahead, and who leaves early leaves nothing behind", async () => {
  let made = 0;
  let left = false;
  const endless = (async function* () {
    try {
      for (;; made++) yield await Promise.resolve(Buffer.alloc(65_536, made));
    } finally {
      left = true;
    }
  })();
  let taken = 0;
  for await (const _chunk of encrypt(key, endless)) {
    assert.ok(made <= taken + 40, `${made} read, ${taken} taken`);
    if (++taken === 200) break;
  }
  assert.ok(left);
});

test("another key is told apart from damage", async () => {
  const bytes = await sealed(65_536);
  await assert.rejects(opened(bytes, otherKey), (error) => isOtherKey(error));
  for (const at of [0, 30, 120, 200, 70_000, bytes.length - 1]) {
    const altered = Buffer.from(bytes);
    altered[at] ^= 1;
    await assert.rejects(opened(altered), `altered at ${at}`);
  }
  for (const length of [0, 100, 216, 65_536 + 216, bytes.length - 1]) {
    await assert.rejects(opened(bytes.subarray(0, length)), `cut to ${length}`);
  }
  await assert.rejects(opened(Buffer.concat([bytes, Buffer.from("more")])), "something appended");
});

test("the head comes first and whole, and is another one each time", async () => {
  const heads = new Set<string>();
  for (let n = 0; n < 3; n++) {
    const made = encrypt(key, pieces(plain, 65_536));
    const { value: head } = await made.next();
    assert.match(Buffer.from(head!).toString("latin1"), /^age-encryption.org\/v1\n[^]*\n--- [^\n]*\n[^]{16}$/);
    heads.add(Buffer.from(head!).toString("hex"));
    await made.return(undefined);
  }
  assert.equal(heads.size, 3);
});

test("the manifest's code fits this key and these bytes only", () => {
  const bytes = Buffer.from('{"format":"hapair pack"}');
  const mac = manifestMac(key, bytes);
  assert.ok(macFits(key, bytes, mac + "\n"));
  assert.ok(!macFits(otherKey, bytes, mac));
  assert.ok(!macFits(key, Buffer.from('{"format":"hapair  pack"}'), mac));
  assert.ok(!macFits(key, bytes, ""));
});

test("a manifest of another version is told so, one that is malformed names the place", () => {
  assert.throws(() => parseManifest('{"version":3}', "p.zip"), /its pack format is 3, this agent reads 1 and 2/);
  assert.throws(() => parseManifest('{"version":0}', "p.zip"), /its pack format is 0, this agent reads 1 and 2/);
  assert.throws(() => parseManifest('{"version":1}', "p.zip"), /manifest.json is malformed at format/);
  assert.throws(() => parseManifest("[", "p.zip"), /manifest.json is no JSON/);
});
