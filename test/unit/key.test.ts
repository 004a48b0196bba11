// The forms of a key file, and what is refused. The content never shows in an error.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { UsageError } from "../../agent/errors.ts";
import { ageIdentity, manifestMacKey, parseKey } from "../../agent/trust/key.ts";

const bytes = Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7 % 256));
const base64 = bytes.toString("base64");
const escaped = base64.replaceAll("=", "\\=");

const accepted: [string, Buffer | string, Buffer][] = [
  ["escaped, as a properties file has it", `ENCRYPTIONKEY=${escaped}\n`, bytes],
  ["not escaped", `ENCRYPTIONKEY=${base64}`, bytes],
  ["without padding", `ENCRYPTIONKEY=${base64.replace(/=+$/, "")}\n`, bytes],
  ["comments, blanks and Windows line ends", `# made on a Monday\r\n\r\n  ENCRYPTIONKEY = ${escaped} \r\n`, bytes],
  ["other properties beside it", `VERSION=1\nENCRYPTIONKEY=${escaped}\nOWNER=me\n`, bytes],
  ["32 raw bytes", bytes, bytes],
  ["more raw bytes, line ends included", Buffer.from("x".repeat(40) + "\n"), Buffer.from("x".repeat(40) + "\n")],
];
for (const [name, content, key] of accepted) {
  test(`key file: ${name}`, () => assert.deepEqual(parseKey(Buffer.from(content), "/key"), key));
}

const refused: [string, string | Buffer, RegExp][] = [
  ["empty", "", /it has 0 bytes/],
  ["31 raw bytes", bytes.subarray(1), /it has 31 bytes/],
  ["short base64", "ENCRYPTIONKEY=c2VjcmV0\n", /it has 6 bytes/],
  ["no value", "ENCRYPTIONKEY=\n", /not of the form/],
  ["no equals sign", `ENCRYPTIONKEY ${base64}`, /not of the form/],
  ["another spelling", `EncryptionKey=${base64}`, /not of the form/],
  ["not base64", `ENCRYPTIONKEY=${"%secret%".repeat(8)}`, /not of the form/],
  ["a length that base64 cannot have", `ENCRYPTIONKEY=${"A".repeat(45)}`, /not of the form/],
  ["two keys", `ENCRYPTIONKEY=${base64}\nENCRYPTIONKEY=${base64}\n`, /2 ENCRYPTIONKEY lines/],
];
for (const [name, content, message] of refused) {
  test(`key file refused: ${name}`, () => {
    assert.throws(() => parseKey(Buffer.from(content), "/key"), (error: UsageError) => {
      assert.match(error.message, message);
      assert.ok(!/secret|c2Vjc/.test(error.message + error.remedy));
      return error instanceof UsageError;
    });
  });
}

test("what is derived from a key is stable, and differs by purpose", () => {
  const key = { path: "/key", bytes };
  // Packs made by former versions must open: these values never change.
  assert.equal(ageIdentity(key), "AGE-SECRET-KEY-1XHR6DLNHXSMD93ED52H98R783SZAUEQ5CMK8G264CC0GXPHKEQTSQ7YANS");
  assert.equal(manifestMacKey(key).toString("hex"), "4037fc927820849e65aa1b0dd065a6a2dd4a88cfe09a123268e4d0b429e62025");
});
