// What there is to say of a home's certificates: for `agent cert show`, and as alerts while the end of one is near.
// Reads files, changes none; shows no key.
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import type { Config } from "../config.ts";
import type { Home } from "../home.ts";
import { fingerprint, readIdentity } from "./certificates.ts";
import { endOfChain, oneLine, parseCertificate, splitPem } from "./chain.ts";
import { expiryOf } from "./expiry.ts";
import { joinCertificatePath, pinnedPeer } from "./join.ts";
import { announcedPeer } from "./pins.ts";
import { readRenewal, type Renewal, renewalPaths } from "./renewal.ts";

/** One certificate, for people and scripts. */
export interface CertificateView {
  readonly subject: string;
  readonly names: string;
  readonly issuer: string;
  readonly self_signed: boolean;
  /** ISO; the end is that of its chain. */
  readonly not_before: string;
  readonly not_after: string;
  /** SHA-256, lower-case hex */
  readonly fingerprint: string;
  /** Its issuers, the root last. */
  readonly chain: readonly string[];
}

export interface CertificatesView {
  readonly own: CertificateView;
  /** A new one that the peer has not pinned yet. */
  readonly next: CertificateView | null;
  readonly renewal: Renewal | null;
  readonly peer: CertificateView | null;
  /** The peer has announced it and not used it yet. */
  readonly peer_next: CertificateView | null;
  /** With it a new secondary may join. */
  readonly join: CertificateView | null;
}

export function viewCertificate(pem: string, origin: string): CertificateView {
  const [own, ...issuers] = splitPem(pem);
  const certificate = parseCertificate(own ?? pem, origin);
  return {
    subject: oneLine(certificate.subject),
    names: certificate.subjectAltName ?? "",
    issuer: oneLine(certificate.issuer),
    self_signed: certificate.subject === certificate.issuer,
    not_before: new Date(certificate.validFrom).toISOString(),
    not_after: new Date(endOfChain(pem)).toISOString(),
    fingerprint: fingerprint(pem, origin),
    chain: issuers.map((issuer) => oneLine(new X509Certificate(issuer).subject)),
  };
}

export function viewCertificates(home: Home): CertificatesView {
  const view = (pem: string | null, origin: string) => pem === null ? null : viewCertificate(pem, origin);
  const file = (path: string) => view(existsSync(path) ? readFileSync(path, "utf8") : null, path);
  const renewal = readRenewal(home);
  return {
    own: viewCertificate(readIdentity(home.nodeCertificate, home.nodeKey).cert, home.nodeCertificate),
    next: renewal?.phase === "announced" ? file(renewalPaths(home).cert) : null,
    renewal,
    peer: view(pinnedPeer(home), "the peer's certificate"),
    peer_next: view(announcedPeer(home), "the peer's next certificate"),
    join: file(joinCertificatePath(home)),
  };
}

/** Alerts of status for certificates that end soon, or have ended. */
export function expiryAlerts(home: Home, { node, peer }: Pick<Config, "node" | "peer">, now: number) {
  const own = readIdentity(home.nodeCertificate, home.nodeKey).cert;
  const theirs = pinnedPeer(home);
  return [
    { name: "certificate", of: node.name, pem: own, where: "" },
    ...(theirs === null ? [] : [{ name: "peer_certificate", of: peer.name, pem: theirs, where: `, on ${peer.name}` }]),
  ].flatMap(({ name, of, pem, where }) => {
    const expiry = expiryOf(endOfChain(pem), now);
    if (expiry === null) return [];
    const what = splitPem(pem).length > 1 ? "agent cert import FILE" : "agent cert renew";
    const message =
      `the certificate of ${of} ${expiry.state}: the pair cannot connect without it. Try: ${what}${where}`;
    return [{ name, severity: expiry.severity, message }];
  });
}
