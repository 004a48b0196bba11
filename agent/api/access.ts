// Who may reach what on the peer API. Pure; serve.ts and client.ts ask it. Never matches a certificate by its name.
export type PeerUse = "peer" | "join";

const joinPaths = new Set(["POST /v1/join", "GET /v1/peer"]);

/** The one-time join certificate opens nothing but joining and discovery. */
export function mayReach(use: PeerUse, method: string, path: string): boolean {
  return use === "peer" || joinPaths.has(`${method} ${path}`);
}

/** The pinned certificate with exactly this SHA-256 fingerprint; the peer's own before the one-time one. */
export function findFingerprint<T extends { fingerprint: string; use: PeerUse }>(
  trusted: readonly T[],
  fingerprint: string | undefined,
): T | undefined {
  if (!fingerprint) return undefined;
  const matching = trusted.filter((one) => one.fingerprint === fingerprint);
  return matching.find((one) => one.use === "peer") ?? matching[0];
}
