// A join token: what goes in comes out, and what is not exactly a token is refused without a word of its content.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import fc from "fast-check";
import { RefusedError, UsageError } from "../../agent/errors.ts";
import { homeAt } from "../../agent/home.ts";
import { fingerprint, type Identity, makeIdentity } from "../../agent/trust/certificates.ts";
import { openJoin, openToken, pinPeer, tokenCertificatePath } from "../../agent/trust/join.ts";
import { decodeToken, encodeToken, tokenExpiry } from "../../agent/trust/token.ts";
import { parseFrom } from "../../agent/setup/from_primary.ts";

let primary: Identity, bearer: Identity, token: string;
before(async () => {
  [primary, bearer] = [await makeIdentity("db1.example.com"), await makeIdentity("hapair-token", 1 / 24)];
  token = encodeToken({ primary: primary.cert, identity: bearer });
});

test("a token is one printable word and holds what it was made of", () => {
  assert.match(token, /^hapair1_[A-Za-z0-9_-]{500,3000}$/);
  const decoded = decodeToken(` ${token}\n`);
  assert.equal(fingerprint(decoded.primary), fingerprint(primary.cert));
  assert.equal(fingerprint(decoded.identity.cert), fingerprint(bearer.cert));
  assert.equal(encodeToken(decoded), token);
  const left = tokenExpiry(decoded).getTime() - Date.now();
  assert.ok(left > 3_500_000 && left <= 3_600_000, `${left} ms left`);
});

test("any character changed, cut off or added: refused, and not repeated", () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.constantFrom("change", "cut", "insert"),
      fc.base64String({ minLength: 1 }),
      (n, how, text) => {
        const at = n % token.length;
        const [head, tail] = [token.slice(0, at), token.slice(at)];
        const bad = how === "cut"
          ? head
          : how === "insert"
          ? head + text + tail
          : head + (tail[0] === "x" ? "y" : "x") + tail.slice(1);
        assert.throws(() => decodeToken(bad), (error: Error) => {
          assert.match(error.message, /^Cannot use the token: /);
          assert.ok(!error.message.includes(token.slice(20, 60)) && error.message.length < 120);
          return error instanceof UsageError;
        });
      },
    ),
    { numRuns: 300 },
  );
});

test("a token whose key is of another certificate, or that holds none", async () => {
  const other = await makeIdentity("x");
  const mixed = encodeToken({ primary: primary.cert, identity: { cert: bearer.cert, key: other.key } });
  assert.throws(() => decodeToken(mixed), /its key is not that of its certificate/);
  assert.throws(() => decodeToken(""), /it does not begin as one/);
  assert.throws(() => decodeToken("hapair1_" + "A".repeat(100_000)), UsageError);
});

test("a token needs an open join, takes the place of the one before, and goes with the join", async () => {
  const root = mkdtempSync(join(tmpdir(), "ha-token-"));
  try {
    const home = homeAt(root);
    await assert.rejects(openToken(home, primary.cert, 60), RefusedError);
    await openJoin(home);
    const [one, two] = [await openToken(home, primary.cert, 60), await openToken(home, primary.cert, 60)];
    assert.notEqual(one, two);
    assert.equal(pinPeer(home, bearer.cert), "pinned");
    assert.equal(existsSync(tokenCertificatePath(home)), false);
    await assert.rejects(openToken(home, primary.cert, 60), /a secondary has joined/);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test("--from names a host and a port, 8282 if left out", () => {
  const good: [string, string, number][] = [
    ["https://db1.example.com", "db1.example.com", 8282],
    ["https://db1.example.com:8283/", "db1.example.com", 8283],
    ["https://192.0.2.1:443", "192.0.2.1", 443],
    ["https://[2001:db8::1]:9000", "2001:db8::1", 9000],
    ["https://[2001:db8::1]", "2001:db8::1", 8282],
  ];
  for (const [text, host, port] of good) assert.deepEqual(parseFrom(text), { host, port }, text);
  for (
    const text of ["", "db1", "http://db1", "https://", "https://u@db1", "https://db1/x", "https://db1?x", "ftp://db1"]
  ) {
    assert.throws(() => parseFrom(text), UsageError, text);
  }
});
