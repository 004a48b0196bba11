// What an internal authority has issued for this node, checked before anything is replaced: key, chain, names, dates and
// purposes. Pure: texts in, an identity out. An error never shows anything of the key.
import { createPrivateKey, type KeyObject } from "node:crypto";
import { isIP } from "node:net";
import { checkServerIdentity } from "node:tls";
import { UsageError } from "../errors.ts";
import type { Identity } from "./certificates.ts";
import { checkPurposes, orderChain, parseCertificate, splitPem } from "./chain.ts";

export interface ImportTexts {
  /** PEM: the node's certificate, and perhaps its key and the certificates of its issuers. */
  readonly bundle: string;
  /** PEM, if they are in files of their own. */
  readonly key?: string;
  readonly authorities?: string;
}

/** The identity made of these, its chain in order. `name` is this node's, a host name or an address. Throws UsageErrors. */
export function checkImport(texts: ImportTexts, name: string, now: number, origin: string): Identity {
  const certificates = splitPem(`${texts.bundle}\n${texts.authorities ?? ""}`);
  if (certificates.length === 0) {
    throw new UsageError(
      `Cannot import ${origin}: no PEM certificate is in it`,
      "from PKCS#12: openssl pkcs12 -in FILE -nodes -out node.pem; from DER: openssl x509 -inform der -in FILE -out node.pem",
    );
  }
  const key = readKey(texts.key ?? texts.bundle, origin);
  const own = certificates.find((pem) => parseCertificate(pem, origin).checkPrivateKey(key));
  if (own === undefined) {
    throw new UsageError(
      `Cannot import ${origin}: the private key belongs to none of its certificates`,
      "name the key that the certificate was asked for with",
    );
  }
  checkStrength(key, origin);
  checkPurposes(own, origin);
  checkName(own, name, origin);
  const chain = orderChain([own, ...certificates.filter((pem) => pem !== own)], origin, now);
  return { cert: chain.join(""), key: key.export({ type: "pkcs8", format: "pem" }).toString() };
}

function readKey(text: string, origin: string): KeyObject {
  const pem = /-----BEGIN ([A-Z ]*)PRIVATE KEY-----[\s\S]*?-----END \1PRIVATE KEY-----/.exec(text);
  if (pem === null) {
    throw new UsageError(
      `Cannot import ${origin}: no private key is in it`,
      "name the file of the private key with --key FILE",
    );
  }
  if (pem[1].includes("ENCRYPTED") || /^(Proc-Type|DEK-Info):/m.test(pem[0])) {
    throw new UsageError(
      `Cannot import ${origin}: the private key is under a password`,
      "take it off: openssl pkey -in FILE -out node.key, and chmod 600 node.key",
    );
  }
  try {
    return createPrivateKey(pem[0]);
  } catch (_cause) {
    // Without the cause: nothing of a key's text may get into an error.
    throw new UsageError(
      `Cannot import ${origin}: its private key cannot be read`,
      "name a PEM key, as openssl writes it",
    );
  }
}

/** What the TLS of both nodes takes. */
function checkStrength(key: KeyObject, origin: string): void {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === "ec" && ["prime256v1", "secp384r1"].includes(details?.namedCurve ?? "")) return;
  if (type === "rsa" && (details?.modulusLength ?? 0) >= 2048) return;
  const what = [type, details?.namedCurve, details?.modulusLength].filter((part) => part !== undefined).join(" ");
  throw new UsageError(
    `Cannot import ${origin}: its key is ${what}`,
    "ask for a certificate with an EC key (P-256 or P-384), or an RSA key of 2048 bits or more",
  );
}

function checkName(pem: string, name: string, origin: string): void {
  const certificate = parseCertificate(pem, origin);
  const names = certificate.subjectAltName;
  if (names !== undefined && checkServerIdentity(name, certificate.toLegacyObject()) === undefined) return;
  throw new UsageError(
    `Cannot import ${origin}: it is for ${names ?? "no name"}, not for ${name}`,
    `ask the authority for one with ${isIP(name) ? "IP" : "DNS"}:${name} as subject alternative name`,
  );
}
