// What an authority has issued: taken if all of it fits, refused with a reason if anything does not; and the chains that are
// taken make a connection, those that TLS itself would refuse do not.
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { before, test } from "node:test";
import { tryHandshake } from "../../agent/api/trial.ts";
import { UsageError } from "../../agent/errors.ts";
import { endOfChain, splitPem } from "../../agent/trust/chain.ts";
import { checkImport } from "../../agent/trust/import.ts";
import {
  clientAuth,
  digitalSignature,
  issue,
  type Issued,
  keyAgreement,
  makeAuthority,
  serverAuth,
  type Wish,
} from "../helpers/authority.ts";

const now = Date.now();
const name = "db1.example.com";
let root: Issued, middle: Issued, chain: string, other: Awaited<ReturnType<typeof makeAuthority>>;

before(async () => {
  ({ root, middle, chain } = await makeAuthority());
  // The same names, other keys.
  other = await makeAuthority();
});

const taken = (texts: { bundle: string; key?: string; authorities?: string }, as = name) =>
  checkImport(texts, as, now, "FILE");

const rsa = (modulusLength: number) => ({
  name: "RSASSA-PKCS1-v1_5",
  modulusLength,
  publicExponent: new Uint8Array([1, 0, 1]),
  hash: "SHA-256",
});

const good: [string, Wish, string?][] = [
  ["for its name", { names: [name] }],
  ["for several names", { names: ["other.example.com", name] }],
  ["for a whole domain", { names: ["*.example.com"] }],
  ["for an address", { names: ["192.0.2.7"] }, "192.0.2.7"],
  ["without purposes", { names: [name], purposes: [] }],
  ["with an EC key of P-384", { names: [name], algorithm: { name: "ECDSA", namedCurve: "P-384" } }],
  ["with an RSA key", { names: [name], algorithm: rsa(2048) }],
];
for (const [what, wish, as] of good) {
  test(`taken, and of use: a certificate ${what}`, async () => {
    const own = await issue({ ...wish, issuer: middle });
    const identity = taken({ bundle: own.cert + own.key + chain }, as);
    assert.deepEqual(splitPem(identity.cert).map((pem) => new X509Certificate(pem).subject), [
      `CN=${wish.names![0]}`,
      "CN=internal servers",
      "CN=internal root",
    ]);
    assert.ok(
      new X509Certificate(identity.cert).checkPrivateKey((await import("node:crypto")).createPrivateKey(identity.key)),
    );
    await tryHandshake(identity, "FILE");
  });
}

test("the order does not matter, nor what else is there, nor in how many files it comes", async () => {
  const own = await issue({ names: [name], issuer: middle });
  const straight = taken({ bundle: own.cert + chain + own.key });
  const mixed = taken({
    bundle: `Bag Attributes\r\n${other.root.cert}${root.cert}${own.cert}`.replaceAll("\n", "\r\n"),
    key: own.key,
    authorities: middle.cert,
  });
  assert.deepEqual(mixed, straight);
});

test("the chain ends when the first of it ends", async () => {
  const short = await issue({ subject: "CN=short", authority: true, to: 20 });
  const own = await issue({ names: [name], issuer: short, to: 300 });
  const { cert } = taken({ bundle: own.cert + own.key + short.cert });
  assert.equal(Math.round((endOfChain(cert) - now) / 86_400_000), 20);
});

const refused: [string, () => Promise<{ bundle: string; key?: string; authorities?: string }>, RegExp][] = [
  ["no certificate", () => Promise.resolve({ bundle: "0\x82\x04garbage" }), /no PEM certificate is in it/],
  [
    "no key",
    async () => ({ bundle: (await issue({ names: [name], issuer: middle })).cert + chain }),
    /no private key is in it/,
  ],
  ["a key of another certificate", async () => {
    const [own, stranger] = [await issue({ names: [name], issuer: middle }), await issue({ names: [name] })];
    return { bundle: own.cert + chain, key: stranger.key };
  }, /belongs to none of its certificates/],
  ["a key under a password", async () => {
    const own = await issue({ names: [name], issuer: middle });
    return { bundle: own.cert + chain, key: own.key.replaceAll("PRIVATE KEY", "ENCRYPTED PRIVATE KEY") };
  }, /under a password/],
  ["a broken key", async () => {
    const own = await issue({ names: [name], issuer: middle });
    return { bundle: own.cert + chain, key: own.key.replace(/\n[A-Za-z0-9+/]{20}/, "\nAAAA") };
  }, /its private key cannot be read|belongs to none/],
  ["a broken certificate", async () => {
    const own = await issue({ names: [name], issuer: middle });
    return { bundle: own.cert.replace(/\n[A-Za-z0-9+/]{20}/, "\nAAAA") + own.key };
  }, /it is not a PEM certificate/],
  ["no root", async () => {
    const own = await issue({ names: [name], issuer: middle });
    return { bundle: own.cert + own.key, authorities: middle.cert };
  }, /was issued by CN=internal root, whose certificate is not with it/],
  ["no issuer", async () => {
    const own = await issue({ names: [name], issuer: middle });
    return { bundle: own.cert + own.key, authorities: root.cert };
  }, /was issued by CN=internal servers/],
  ["another authority of the same names", async () => {
    const own = await issue({ names: [name], issuer: middle });
    return { bundle: own.cert + own.key, authorities: other.chain };
  }, /whose certificate is not with it/],
  ["an issuer that is no authority", async () => {
    const none = await issue({ subject: "CN=none", names: ["none"] });
    const own = await issue({ names: [name], issuer: none });
    return { bundle: own.cert + own.key + none.cert };
  }, /whose certificate is not with it/],
  ["expired", () => whole({ names: [name], to: -0.01 }), /has expired, on /],
  ["not valid yet", () => whole({ names: [name], from: 1 }), /is not valid before /],
  ["an expired authority", async () => {
    const old = await issue({ subject: "CN=old", authority: true, from: -9, to: -1 });
    const own = await issue({ names: [name], issuer: old });
    return { bundle: own.cert + own.key + old.cert };
  }, /the certificate of CN=old has expired/],
  [
    "for another name",
    () => whole({ names: ["db2.example.com"] }),
    /it is for DNS:db2\.example\.com, not for db1\.example\.com/,
  ],
  ["for no name but its subject's", () => whole({ subject: `CN=${name}` }), /it is for no name, not for/],
  ["for servers only", () => whole({ names: [name], purposes: [serverAuth] }), /may not be used as a TLS client/],
  ["for clients only", () => whole({ names: [name], purposes: [clientAuth] }), /may not be used as a TLS server/],
  ["not for signatures", () => whole({ names: [name], usages: keyAgreement }), /may not be used for signatures/],
  ["an authority's own", () => whole({ names: [name], authority: true, usages: digitalSignature }), /of an authority/],
  ["a small RSA key", () => whole({ names: [name], algorithm: rsa(1024) }), /its key is rsa 1024/],
  [
    "an odd curve",
    () => whole({ names: [name], algorithm: { name: "ECDSA", namedCurve: "P-521" } }),
    /its key is ec secp521r1/,
  ],
];
async function whole(wish: Wish) {
  const own = await issue({ ...wish, issuer: middle });
  return { bundle: own.cert + own.key + chain };
}
for (const [what, make, message] of refused) {
  test(`refused: ${what}`, async () => {
    const texts = await make();
    assert.throws(() => taken(texts), (error: unknown) => {
      assert.ok(error instanceof UsageError, String(error));
      assert.match(error.message, message);
      assert.ok(error.remedy.length > 10);
      const body = (texts.key ?? texts.bundle).split("\n").filter((line) => /^[A-Za-z0-9+/]{20,}/.test(line));
      for (const line of body) assert.ok(!`${error.message}${error.remedy}${error.stack}`.includes(line));
      return true;
    });
  });
}

test("what only TLS itself finds out is found out by the trial", async () => {
  const own = await issue({ names: [name], issuer: middle, riddle: true });
  const identity = taken({ bundle: own.cert + own.key + chain });
  await assert.rejects(
    tryHandshake(identity, "FILE"),
    /^UsageError: Cannot use FILE: no TLS connection can be made with it/,
  );
});
