// A certificate tried before it is used: a handshake of this node with itself, as server and as client, on this machine.
// What the TLS of both nodes would refuse, a constraint of its authority for one, is found out here.
import { Hono } from "hono";
import { z } from "zod";
import { AgentError, reason, UsageError } from "../errors.ts";
import type { Identity } from "../trust/certificates.ts";
import { PeerClient } from "./client.ts";
import { type PeerEnv, servePeers } from "./serve.ts";

/** Throws UsageError where two nodes with this identity could not connect. */
export async function tryHandshake(identity: Identity, origin: string): Promise<void> {
  const listener = await servePeers({
    listen: { host: "127.0.0.1", port: 0 },
    tls: { ...identity, trusted: [{ pem: identity.cert, use: "peer" }] },
    app: new Hono<PeerEnv>().get("/v1/peer", (c) => c.json(true)),
    raw: {},
  });
  const client = new PeerClient({
    address: { host: "127.0.0.1", port: listener.port },
    tls: { ...identity, pinned: identity.cert },
  });
  try {
    await client.call("GET", "/v1/peer", undefined, z.literal(true), { timeoutMs: 20_000 });
  } catch (error) {
    const why = error instanceof AgentError && error.cause ? reason(error.cause) : reason(error);
    throw new UsageError(
      `Cannot use ${origin}: no TLS connection can be made with it: ${why}`,
      "ask the authority for a certificate of an ordinary TLS server and client, without constraints that exclude it",
      { cause: error },
    );
  } finally {
    client.close();
    await listener.close();
  }
}
