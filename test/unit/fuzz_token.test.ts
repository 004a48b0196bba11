// The token of a join, spoilt in any way: understood or refused by a proper error that does not tell it.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { makeIdentity } from "../../agent/trust/certificates.ts";
import { decodeToken, encodeToken, tokenExpiry } from "../../agent/trust/token.ts";
import { onlyProper, runs, spoilt, spoiltText } from "../helpers/fuzz.ts";

test("tokens", async () => {
  const [own, once] = await Promise.all([makeIdentity("a.example"), makeIdentity("once")]);
  const token = encodeToken({ primary: own.cert, identity: once });
  assert.deepEqual(decodeToken(token).identity.cert.trim(), once.cert.trim());
  const text = spoiltText([token], ["=", "-", "_", ".", "\n", " ", "\0", "ü", "A".repeat(5000)]);
  // With a sum that is right again, so that what is inside is looked at.
  const body = Buffer.from(token.slice(8), "base64url").subarray(0, -6);
  const inner = spoilt(body).map((bytes) => {
    const sum = createHash("sha256").update(bytes).digest().subarray(0, 6);
    return token.slice(0, 8) + Buffer.concat([bytes, sum]).toString("base64url");
  });
  await fc.assert(
    fc.asyncProperty(fc.oneof(text, inner, fc.string()), (text) =>
      onlyProper(() => {
        try {
          const decoded = decodeToken(text);
          assert.ok(!Number.isNaN(tokenExpiry(decoded).getTime()));
        } catch (error) {
          for (let at = 40; at + 12 <= token.length; at += 12) {
            assert.ok(!String(error).includes(token.slice(at, at + 12)), String(error));
          }
          throw error;
        }
      })),
    runs(1000),
  );
});
