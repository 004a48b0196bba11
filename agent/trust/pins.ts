// Which certificates are pinned for the peer: the one in use, and beside it one that the peer has announced, until it is
// seen in use. An announcement counts only from who holds the pinned certificate.
import { existsSync, readFileSync, renameSync } from "node:fs";
import { removeDurably, syncFolder, writeDurably } from "../durable_file.ts";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { fingerprint, readIdentity } from "./certificates.ts";
import { checkPurposes, orderChain, splitPem } from "./chain.ts";
import { announcedPeerPath, peerCertificatePath, pinnedPeer } from "./join.ts";

/** The certificate that the peer has announced and not used yet. */
export function announcedPeer(home: Home): string | null {
  const path = announcedPeerPath(home);
  return existsSync(path) ? readFileSync(path, "utf8") : null;
}

/** All that are accepted as the peer's; the one in use first. Empty: no peer has joined. */
export function pinnedPeers(home: Home): string[] {
  return [pinnedPeer(home), announcedPeer(home)].filter((pem) => pem !== null);
}

export interface Announced {
  readonly fingerprint: string;
  /** The announcement itself came over a connection with the announced certificate. */
  readonly inUse: boolean;
  /** What was pinned before and is not any more. */
  readonly dropped: string | null;
}

/**
 * Takes an announcement: pins the certificate beside the present one; once the peer has used it (`shown` is what it came
 * with), drops the former. Durable when it returns. Throws UsageErrors where the certificate is not fit.
 */
export function takeAnnouncement(home: Home, text: string, shown: string, now: number): Announced {
  const origin = "the announced certificate";
  const pinned = pinnedPeer(home);
  if (pinned === null) throw new RefusedError("Cannot pin a certificate: no peer has joined", "let it join first");
  const chain = orderChain(splitPem(text), origin, now);
  checkPurposes(chain[0], origin);
  const wanted = fingerprint(chain[0], origin);
  if (wanted === fingerprint(readIdentity(home.nodeCertificate, home.nodeKey).cert)) {
    throw new RefusedError("Cannot pin a certificate: it is this node's own", "renew on the peer: agent cert renew");
  }
  const former = fingerprint(pinned);
  const inUse = shown === wanted;
  if (wanted === former) {
    // Its answer was lost the last time, or it has gone back to what it had.
    removeDurably(announcedPeerPath(home));
    return { fingerprint: wanted, inUse, dropped: null };
  }
  const announced = announcedPeer(home);
  if (announced === null || fingerprint(announced) !== wanted) writeDurably(announcedPeerPath(home), chain.join(""));
  if (!inUse) return { fingerprint: wanted, inUse, dropped: null };
  renameSync(announcedPeerPath(home), peerCertificatePath(home));
  syncFolder(home.trustDir);
  return { fingerprint: wanted, inUse, dropped: former };
}
