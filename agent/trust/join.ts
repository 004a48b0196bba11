// How a new secondary becomes trusted: the primary accepts one join certificate until a peer is pinned with it, and the
// certificate of one token, which opens the pack. Neither outlives that: a pack or a token stolen later lets nobody in.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { removeDurably } from "../durable_file.ts";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { fingerprint, type Identity, makeIdentity, makeJoinIdentity, writeWhole } from "./certificates.ts";
import { encodeToken } from "./token.ts";

export function peerCertificatePath(home: Home): string {
  return join(home.trustDir, "peer.crt");
}

/** What the peer will use next: see pins.ts. */
export function announcedPeerPath(home: Home): string {
  return join(home.trustDir, "peer_next.crt");
}

/** On the primary: the join certificate it accepts while a join is open. */
export function joinCertificatePath(home: Home): string {
  return join(home.trustDir, "join.crt");
}

/** On the primary: the certificate of the newest token. */
export function tokenCertificatePath(home: Home): string {
  return join(home.trustDir, "token.crt");
}

/** On the secondary: the one-time identity from its pack. */
export function joinIdentityPaths(home: Home): { cert: string; key: string } {
  const folder = join(home.root, "conf", "tls");
  return { cert: join(folder, "join.crt"), key: join(folder, "join.key") };
}

/** The primary opens a join: the identity goes into the pack, its certificate into the trust folder. */
export async function openJoin(home: Home): Promise<Identity> {
  const identity = await makeJoinIdentity();
  writeWhole(joinCertificatePath(home), identity.cert, 0o644);
  return identity;
}

/** A new token for whoever knows it, in place of the one before. Refused where nobody could join any more. */
export async function openToken(home: Home, primary: string, seconds: number): Promise<string> {
  if (!existsSync(joinCertificatePath(home))) {
    throw new RefusedError(
      "Cannot make a token: a secondary has joined with the newest pack, or the certificate was renewed since",
      "make a new pack first with agent pack create (--replace if a secondary has joined: it must be set up again)",
    );
  }
  const identity = await makeIdentity("hapair-token", seconds / 86_400);
  writeWhole(tokenCertificatePath(home), identity.cert, 0o644);
  return encodeToken({ primary, identity });
}

/** The certificate pinned for the peer, if there is one. */
export function pinnedPeer(home: Home): string | null {
  const path = peerCertificatePath(home);
  return existsSync(path) ? readFileSync(path, "utf8") : null;
}

/**
 * Pins the peer's certificate and retires the join certificate. The same certificate again is fine (its answer may have
 * been lost); another one is refused unless a join is open.
 */
export function pinPeer(home: Home, pem: string): "pinned" | "already" {
  const wanted = fingerprint(pem, "the peer's certificate");
  const pinned = pinnedPeer(home);
  if (pinned !== null && fingerprint(pinned, peerCertificatePath(home)) === wanted) {
    closeJoin(home);
    return "already";
  }
  if (!existsSync(joinCertificatePath(home))) {
    throw new RefusedError(
      "Cannot trust the peer's certificate: no join is open",
      "run agent setup primary again and set the secondary up from the new pack",
    );
  }
  writeWhole(peerCertificatePath(home), pem, 0o644);
  removeDurably(announcedPeerPath(home)); // that of another peer
  closeJoin(home);
  return "pinned";
}

/** Nobody may join any more with the pack that was made last. */
export function closeJoin(home: Home): void {
  removeDurably(joinCertificatePath(home));
  removeDurably(tokenCertificatePath(home));
}

/** On the secondary: the one-time identity has done its work. */
export function retireJoinIdentity(home: Home): void {
  const { cert, key } = joinIdentityPaths(home);
  removeDurably(cert);
  removeDurably(key);
}
