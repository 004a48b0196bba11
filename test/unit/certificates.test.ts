// Certificates as they are made: names, dates, and that each vouches for nothing but itself.
import assert from "node:assert/strict";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { test } from "node:test";
import { UsageError } from "../../agent/errors.ts";
import { describeCertificate, fingerprint, makeIdentity, makeJoinIdentity } from "../../agent/trust/certificates.ts";

for (const [name, alternative] of [["db.example.com", "DNS:db.example.com"], ["192.0.2.7", "IP Address:192.0.2.7"]]) {
  test(`a node's certificate for ${name}`, async () => {
    const { cert, key } = await makeIdentity(name, 3650, new Date("2030-01-01T00:00:00Z"));
    const parsed = new X509Certificate(cert);
    assert.equal(parsed.subjectAltName, alternative);
    assert.equal(parsed.ca, false);
    assert.ok(parsed.verify(parsed.publicKey), "it is signed by itself");
    assert.ok(parsed.checkPrivateKey(createPrivateKey(key)));
    assert.equal(new Date(parsed.validFrom).toISOString(), "2029-12-31T23:00:00.000Z");
    assert.equal(new Date(parsed.validTo).toISOString(), "2039-12-30T00:00:00.000Z");
    assert.match(fingerprint(cert), /^[0-9a-f]{64}$/);
    assert.equal(describeCertificate(cert).subject, `CN=${name}`);
  });
}

test("two certificates differ; that for joining ends after 30 days", async () => {
  const now = new Date("2030-01-01T00:00:00Z");
  const [one, other] = [await makeJoinIdentity(now), await makeJoinIdentity(now)];
  assert.notEqual(fingerprint(one.cert), fingerprint(other.cert));
  assert.notEqual(one.key, other.key);
  assert.equal(describeCertificate(one.cert).notAfter, "2030-01-31T00:00:00.000Z");
});

test("what is no certificate is refused by name", () => {
  assert.throws(() => fingerprint("-----BEGIN CERTIFICATE-----\nAAAA\n", "peer.crt"), (error: UsageError) => {
    assert.match(error.message, /^Cannot use peer.crt: it is not a PEM certificate$/);
    return error instanceof UsageError;
  });
});
