// A join token: one printable string with the primary's certificate and a one-time client identity, so that a new
// secondary's very first handshake is between known certificates. It opens the pack only, and the pack only opens with
// the master key. Never written to a log or an error.
import { Buffer } from "node:buffer";
import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { UsageError } from "../errors.ts";
import type { Identity } from "./certificates.ts";
import { splitPem } from "./chain.ts";

export interface JoinToken {
  /** The certificate that the primary must hold, PEM, and those that vouch for it, if any. */
  readonly primary: string;
  /** What the bearer shows. */
  readonly identity: Identity;
}

const prefix = "hapair1_";
const sumBytes = 6;
const mostCharacters = 64 * 1024;
const remedy = "copy the whole token, one line, from agent token on the primary";

/** prefix, then base64url of the DER parts (primary's, bearer's, its key), each after its length, and a checksum against slips of copying. */
export function encodeToken({ primary, identity }: JoinToken): string {
  const parts = [
    ...splitPem(primary).map((pem) => new X509Certificate(pem).raw),
    new X509Certificate(identity.cert).raw,
    createPrivateKey(identity.key).export({ type: "pkcs8", format: "der" }),
  ];
  const body = Buffer.concat(parts.flatMap((part) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(part.length);
    return [length, Buffer.from(part)];
  }));
  return prefix + Buffer.concat([body, sumOf(body)]).toString("base64url");
}

/** Throws UsageError where `text` is no whole token; says nothing of its content. */
export function decodeToken(text: string): JoinToken {
  const token = text.trim();
  if (!token.startsWith(prefix)) throw bad("it does not begin as one");
  const encoded = token.slice(prefix.length);
  if (encoded.length > mostCharacters || !/^[A-Za-z0-9_-]+$/.test(encoded)) throw bad("it has other characters");
  const bytes = Buffer.from(encoded, "base64url");
  const body = bytes.subarray(0, -sumBytes);
  if (bytes.length <= sumBytes || !sumOf(body).equals(bytes.subarray(-sumBytes))) throw bad("it is not whole");
  const parts = split(body);
  if (parts.length < 3) throw bad("it has other parts");
  const [cert, key] = parts.slice(-2);
  const decoded = {
    primary: parts.slice(0, -2).map((part) => pem("CERTIFICATE", part)).join(""),
    identity: { cert: pem("CERTIFICATE", cert), key: pem("PRIVATE KEY", key) },
  };
  let fits: boolean;
  try {
    for (const each of splitPem(decoded.primary)) new X509Certificate(each);
    fits = new X509Certificate(decoded.identity.cert).checkPrivateKey(createPrivateKey(decoded.identity.key));
  } catch (cause) {
    throw bad("it holds no certificates", cause);
  }
  if (!fits) throw bad("its key is not that of its certificate");
  return decoded;
}

/** When the bearer is no longer let in. */
export function tokenExpiry(token: JoinToken): Date {
  return new Date(new X509Certificate(token.identity.cert).validTo);
}

function split(body: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length;) {
    if (at + 2 > body.length) throw bad("it is not whole");
    const end = at + 2 + body.readUInt16BE(at);
    if (end > body.length) throw bad("it is not whole");
    parts.push(body.subarray(at + 2, end));
    at = end;
  }
  return parts;
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}

function sumOf(body: Buffer): Buffer {
  return createHash("sha256").update(body).digest().subarray(0, sumBytes);
}

function bad(state: string, cause?: unknown): UsageError {
  return new UsageError(`Cannot use the token: ${state}`, remedy, { cause });
}
