// How a new secondary becomes known to its primary: the one way, for setup and for the agent alike. The one-time identity
// is given up only once the primary knows this node's own certificate.
import { existsSync } from "node:fs";
import type { Home } from "../home.ts";
import { type Identity, readIdentity } from "../trust/certificates.ts";
import { joinIdentityPaths, retireJoinIdentity } from "../trust/join.ts";
import { PeerClient, TurnedDownError } from "./client.ts";
import type { JoinRequest } from "./schemas.ts";

export interface Introduction {
  readonly home: Home;
  /** Where the primary is, and the certificates that it may hold. */
  readonly address: { readonly host: string; readonly port: number };
  readonly pinned: string | readonly string[];
  /** This node's own. */
  readonly own: Identity;
  readonly self: Omit<JoinRequest, "certificate">;
}

/** Has this node's certificate pinned by the primary. Does nothing where that was done before. */
export async function introduce({ home, address, pinned, own, self }: Introduction): Promise<void> {
  const paths = joinIdentityPaths(home);
  if (!existsSync(paths.cert)) return;
  const { cert, key } = readIdentity(paths.cert, paths.key);
  const once = new PeerClient({ address, tls: { cert, key, pinned } });
  try {
    await once.join({ ...self, certificate: own.cert });
  } catch (error) {
    // The answer to an earlier try may have been lost: then the join is over, and this node is trusted already. While it
    // is open, being trusted says nothing: a node that is set up anew was trusted before.
    if (!(error instanceof TurnedDownError) || !await isTrusted({ address, pinned, own })) throw error;
  } finally {
    once.close();
  }
  retireJoinIdentity(home);
}

async function isTrusted({ address, pinned, own }: Pick<Introduction, "address" | "pinned" | "own">): Promise<boolean> {
  const client = new PeerClient({ address, tls: { ...own, pinned } });
  try {
    return await client.peer().then(() => true, () => false);
  } finally {
    client.close();
  }
}
