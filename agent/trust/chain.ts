// A certificate with those of its issuers, as PEM: the node's own first, the self-signed one last. Pure checks of what an
// authority has issued; nothing is read or written here. Never takes a name or a date on trust that it can check.
import "reflect-metadata";
import { X509Certificate } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { UsageError } from "../errors.ts";

const longestChain = 8;
/** Clocks of an authority and of this node may differ by so much. */
const clockMs = 300_000;

/** The certificates in a PEM text, one by one, in their order. Whatever else is in it is left out. */
export function splitPem(text: string): string[] {
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  return found.map((pem) => pem.replace(/\r/g, "") + "\n");
}

/** The end of the one that ends first. */
export function endOfChain(chain: string): number {
  return Math.min(...splitPem(chain).map((pem) => Date.parse(new X509Certificate(pem).validTo)));
}

/** Throws UsageError where `pem` is no certificate, or where not all of it that is looked at later can be read. */
export function parseCertificate(pem: string, origin: string, remedy = "name a file of PEM certificates") {
  try {
    const certificate = new X509Certificate(pem);
    // What a runtime cannot read it throws at, or leaves out.
    const names = [certificate.subject, certificate.issuer] as unknown[];
    const readable = certificate.publicKey.type === "public" && names.every((name) => typeof name === "string");
    if (!readable || Number.isNaN(Date.parse(certificate.validTo))) {
      throw new Error("its key, its names or its dates cannot be read");
    }
    return certificate;
  } catch (cause) {
    throw new UsageError(`Cannot use ${origin}: it is not a PEM certificate`, remedy, { cause });
  }
}

/** The first certificate and its issuers out of `pems`, in order, whole up to the self-signed one. Throws UsageErrors. */
export function orderChain(pems: readonly string[], origin: string, now: number): string[] {
  const certificates = pems.map((pem) => ({ pem, parsed: parseCertificate(pem, origin) }));
  if (certificates.length === 0) {
    throw new UsageError(`Cannot use ${origin}: no certificate is in it`, "name a file of PEM certificates");
  }
  const chain = [certificates[0]];
  for (;;) {
    const last = chain[chain.length - 1].parsed;
    checkDates(last, origin, now);
    if (isSelfSigned(last)) break;
    const issuer = certificates.find(({ parsed }) =>
      parsed.ca && last.checkIssued(parsed) && last.verify(parsed.publicKey) &&
      !chain.some((one) => one.parsed.fingerprint256 === parsed.fingerprint256)
    );
    if (!issuer) {
      throw new UsageError(
        `Cannot use ${origin}: ${nameOf(last)} was issued by ${oneLine(last.issuer)}, whose certificate is not with it`,
        "add the authority's certificates, up to its root, with --ca FILE",
      );
    }
    chain.push(issuer);
    if (chain.length > longestChain) {
      throw new UsageError(
        `Cannot use ${origin}: its chain has more than ${longestChain} certificates`,
        "ask for a shorter one",
      );
    }
  }
  return chain.map(({ pem }) => pem);
}

function isSelfSigned(certificate: X509Certificate): boolean {
  return certificate.subject === certificate.issuer && certificate.verify(certificate.publicKey);
}

function checkDates(certificate: X509Certificate, origin: string, now: number): void {
  const from = Date.parse(certificate.validFrom);
  const to = Date.parse(certificate.validTo);
  if (to <= now) {
    throw new UsageError(
      `Cannot use ${origin}: ${nameOf(certificate)} has expired, on ${new Date(to).toISOString()}`,
      "get a new one from the authority",
    );
  }
  if (from > now + clockMs) {
    throw new UsageError(
      `Cannot use ${origin}: ${nameOf(certificate)} is not valid before ${new Date(from).toISOString()}`,
      "wait until then, or see whether this server's clock is right",
    );
  }
}

/** Whether a certificate may stand for a node towards another: as server and as client, and vouching for no other. */
export function checkPurposes(pem: string, origin: string): void {
  const certificate = new x509.X509Certificate(pem);
  const purposes = certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages as string[] | undefined;
  const { serverAuth, clientAuth, anyExtendedKeyUsage } = {
    ...x509.ExtendedKeyUsage,
    anyExtendedKeyUsage: "2.5.29.37.0",
  };
  const missing = [[serverAuth, "server"], [clientAuth, "client"]].filter(([purpose]) =>
    purposes && !purposes.includes(purpose) && !purposes.includes(anyExtendedKeyUsage)
  );
  const refuse = (state: string, remedy: string) => {
    throw new UsageError(`Cannot use ${origin}: ${state}`, remedy);
  };
  if (certificate.getExtension(x509.BasicConstraintsExtension)?.ca) {
    refuse("it is the certificate of an authority", "name the certificate that was issued for this node");
  }
  if (missing.length > 0) {
    refuse(
      `it may not be used as a TLS ${missing.map(([, name]) => name).join(", nor as a ")}`,
      "ask the authority for one with the extended key usages serverAuth and clientAuth: each node is both",
    );
  }
  const usages = certificate.getExtension(x509.KeyUsagesExtension)?.usages;
  if (usages !== undefined && (usages & x509.KeyUsageFlags.digitalSignature) === 0) {
    refuse("it may not be used for signatures", "ask the authority for one with the key usage digitalSignature");
  }
}

function nameOf(certificate: X509Certificate): string {
  return `the certificate of ${oneLine(certificate.subject) || "nobody"}`;
}

/** A distinguished name on one line. */
export function oneLine(name: string): string {
  return name.replace(/\n/g, ", ");
}
