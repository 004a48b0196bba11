// A pack's members are age files: what the library makes of the derived key opens them, and nothing altered passes.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { Decrypter } from "age-encryption";
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

test("the manifest's code fits this key and these bytes only", () => {
  const bytes = Buffer.from('{"format":"hapair pack"}');
  const mac = manifestMac(key, bytes);
  assert.ok(macFits(key, bytes, mac + "\n"));
  assert.ok(!macFits(otherKey, bytes, mac));
  assert.ok(!macFits(key, Buffer.from('{"format":"hapair  pack"}'), mac));
  assert.ok(!macFits(key, bytes, ""));
});

test("a manifest of another version is told so, one that is malformed names the place", () => {
  assert.throws(() => parseManifest('{"version":2}', "p.zip"), /its pack format is 2, this agent reads 1/);
  assert.throws(() => parseManifest('{"version":1}', "p.zip"), /manifest.json is malformed at format/);
  assert.throws(() => parseManifest("[", "p.zip"), /manifest.json is no JSON/);
});
