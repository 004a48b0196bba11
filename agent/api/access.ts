// Who may reach what on the peer API. Pure; serve.ts and client.ts ask it. Never matches a certificate by its name.
export type PeerUse = "peer" | "join" | "token";

/** The one-time certificates open no more than this: who has a token gets the pack, who could open that may join. */
const onceOpen: Readonly<Record<Exclude<PeerUse, "peer">, ReadonlySet<string>>> = {
  join: new Set(["POST /v1/join", "GET /v1/peer"]),
  token: new Set(["GET /v1/pack", "HEAD /v1/pack", "GET /v1/peer"]),
};

export function mayReach(use: PeerUse, method: string, path: string): boolean {
  return use === "peer" || onceOpen[use].has(`${method} ${path}`);
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
