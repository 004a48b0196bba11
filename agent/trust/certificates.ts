// A node's certificate and private key: made, written, read. A private key is written with mode 0600 and only below this
// node's own home; only the one-time join key ever travels, inside the encrypted pack.
import "reflect-metadata";
import { Buffer } from "node:buffer";
import { createPrivateKey, randomBytes, webcrypto } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, join } from "node:path";
import process from "node:process";
import * as x509 from "@peculiar/x509";
import { writeDurably } from "../durable_file.ts";
import { reason, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { oneLine, parseCertificate } from "./chain.ts";

/** A certificate and its private key, both PEM. */
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

/** What a TLS endpoint of this node needs: its identity, and the certificates (PEM) it accepts from the other side. */
export interface TlsFiles extends Identity {
  readonly trusted: readonly string[];
}

export const joinName = "hapair-join";
const nodeDays = 3650;
const joinDays = 30;
const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const remedy = "run setup again, or put back the file from a backup";

/** What a node's certificate is for: its name, without the port that two nodes of one host are told apart by. */
export function hostOf(nodeName: string): string {
  return isIP(nodeName) ? nodeName : nodeName.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
}

/** A self-signed ECDSA P-256 certificate for `name`, a host name or an address, good as server and as client. */
export async function makeIdentity(name: string, days = nodeDays, now = new Date()): Promise<Identity> {
  const crypto = webcrypto as unknown as Crypto;
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01" + randomBytes(15).toString("hex"), // positive, whatever comes
    name: [{ CN: [name] }],
    notBefore: new Date(now.getTime() - 3_600_000), // the peer's clock may be behind
    notAfter: new Date(now.getTime() + days * 86_400_000),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true), // pinned itself, it can vouch for no other
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension([{ type: isIP(name) ? "ip" : "dns", value: name }]),
    ],
  }, crypto);
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    cert: certificate.toString("pem") + "\n",
    key: x509.PemConverter.encode(pkcs8, "PRIVATE KEY") + "\n",
  };
}

/** The one-time identity that a pack carries, with which a new secondary may ask to be trusted. */
export function makeJoinIdentity(now = new Date()): Promise<Identity> {
  return makeIdentity(joinName, joinDays, now);
}

/** SHA-256 over the certificate's DER form, lower-case hex. Throws UsageError where `pem` is no certificate. */
export function fingerprint(pem: string, origin = "the certificate"): string {
  return parseCertificate(pem, origin, remedy).fingerprint256.replaceAll(":", "").toLowerCase();
}

/** Names, dates and fingerprint, for people. */
export function describeCertificate(pem: string, origin = "the certificate") {
  const certificate = parseCertificate(pem, origin, remedy);
  return {
    subject: oneLine(certificate.subject),
    names: certificate.subjectAltName ?? "",
    notAfter: new Date(certificate.validTo).toISOString(),
    fingerprint: fingerprint(pem, origin),
  };
}

/** Writes both files whole or not at all each; the key first, so that no certificate is ever without its key. */
export function writeIdentity(certPath: string, keyPath: string, identity: Identity): void {
  writeWhole(keyPath, identity.key, 0o600);
  writeWhole(certPath, identity.cert, 0o644);
}

/** Replaces a small file atomically and for good, its folder made if need be: two nodes go by what was written. */
export function writeWhole(path: string, text: string, mode: number): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeDurably(path, text, mode);
}

/** Reads a certificate and its key; refuses a key that others may read, or that belongs to another certificate. */
export function readIdentity(certPath: string, keyPath: string): Identity {
  const cert = readText(certPath);
  const key = readText(keyPath);
  if (process.platform !== "win32" && (statSync(keyPath).mode & 0o077) !== 0) {
    throw new UsageError(`Cannot use ${keyPath}: others may read it`, `chmod 600 ${keyPath}`);
  }
  const certificate = parseCertificate(cert, certPath, remedy);
  let fits: boolean;
  try {
    fits = certificate.checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new UsageError(`Cannot use ${keyPath}: it is not a PEM private key`, remedy, { cause });
  }
  if (!fits) throw new UsageError(`Cannot use ${keyPath}: it is not the key of ${certPath}`, remedy);
  return { cert, key };
}

/** This node's identity and every certificate in its trust folder, in the order of their names. */
export function loadTls(home: Home): TlsFiles {
  const identity = readIdentity(home.nodeCertificate, home.nodeKey);
  const names = listTrust(home).filter((name) => name.endsWith(".crt")).sort();
  const trusted = names.map((name) => {
    const path = join(home.trustDir, name);
    const pem = readText(path);
    parseCertificate(pem, path, remedy);
    return pem;
  });
  return { ...identity, trusted };
}

function listTrust(home: Home): string[] {
  try {
    return readdirSync(home.trustDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new UsageError(`Cannot read ${home.trustDir}: ${reason(error)}`, remedy);
  }
}

function readText(path: string): string {
  try {
    return Buffer.from(readFileSync(path)).toString("utf8");
  } catch (error) {
    throw new UsageError(`Cannot read ${path}: ${reason(error)}`, remedy);
  }
}
