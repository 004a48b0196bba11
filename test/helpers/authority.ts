// Certificate authorities for tests, good and bad ones, and certificates of any kind issued by them.
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";

const crypto = webcrypto as unknown as Crypto;
const ec = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const dayMs = 86_400_000;

export interface Issued {
  readonly cert: string;
  readonly key: string;
  readonly subject: string;
  readonly keys: CryptoKeyPair;
}

export interface Wish {
  readonly subject?: string;
  /** Subject alternative names; none: no such extension. */
  readonly names?: readonly string[];
  readonly issuer?: Issued;
  readonly authority?: boolean;
  readonly pathLength?: number;
  /** Days from now. */
  readonly from?: number;
  readonly to?: number;
  readonly purposes?: readonly string[];
  readonly usages?: number;
  /** An extension that nobody knows, and that must not be passed over. */
  readonly riddle?: boolean;
  readonly algorithm?: EcKeyGenParams | RsaHashedKeyGenParams;
}

export const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;
export const { digitalSignature, keyAgreement } = x509.KeyUsageFlags;

/** A certificate as wished; without an issuer it signs itself. */
export async function issue(wish: Wish): Promise<Issued> {
  const { names = [], issuer, authority = false, from = -1, to = 365 } = wish;
  const subject = wish.subject ?? `CN=${names[0] ?? "authority"}`;
  const algorithm = wish.algorithm ?? ec;
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as CryptoKeyPair;
  const usages = wish.usages ?? (authority ? x509.KeyUsageFlags.keyCertSign : x509.KeyUsageFlags.digitalSignature);
  const purposes = wish.purposes ?? [serverAuth, clientAuth];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: "01" + randomBytes(15).toString("hex"),
    subject,
    issuer: issuer?.subject ?? subject,
    notBefore: new Date(Date.now() + from * dayMs),
    notAfter: new Date(Date.now() + to * dayMs),
    signingAlgorithm: issuer || !wish.algorithm ? ec : { ...algorithm, hash: "SHA-256" },
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(authority, wish.pathLength, true),
      new x509.KeyUsagesExtension(usages, true),
      ...(authority || purposes.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension([...purposes])]),
      ...(wish.riddle ? [new x509.Extension("1.3.6.1.4.1.32473.1", true, new Uint8Array([5, 0]))] : []),
      ...(names.length === 0 ? [] : [
        new x509.SubjectAlternativeNameExtension(
          names.map((value) => ({ type: isIP(value) ? "ip" as const : "dns" as const, value })),
        ),
      ]),
    ],
  }, crypto);
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    cert: certificate.toString("pem") + "\n",
    key: x509.PemConverter.encode(pkcs8, "PRIVATE KEY") + "\n",
    subject,
    keys,
  };
}

/** A root and an authority below it. */
export async function makeAuthority(name = "internal"): Promise<{ root: Issued; middle: Issued; chain: string }> {
  const root = await issue({ subject: `CN=${name} root`, authority: true });
  const middle = await issue({ subject: `CN=${name} servers`, authority: true, issuer: root, pathLength: 0 });
  return { root, middle, chain: middle.cert + root.cert };
}
