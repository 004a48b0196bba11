// The peer as this node knows it: its pinned certificate, the client that speaks to it, and how it became trusted.
import { existsSync, readFileSync } from "node:fs";
import { type ClientTls, PeerClient } from "../api/client.ts";
import { introduce } from "../api/introduce.ts";
import type { JoinAnswer, JoinRequest } from "../api/schemas.ts";
import type { PeerTls } from "../api/serve.ts";
import { parseLsn } from "../change/lsn.ts";
import { type Config, splitAddress } from "../config.ts";
import { UnreachableError } from "../errors.ts";
import type { Home } from "../home.ts";
import type { NodeReport } from "../report.ts";
import { type Identity, readIdentity } from "../trust/certificates.ts";
import { closeJoin, joinCertificatePath, pinnedPeer, pinPeer, tokenCertificatePath } from "../trust/join.ts";
import { pinnedPeers } from "../trust/pins.ts";
import { settleRenewal } from "../trust/renewal.ts";

export class Peer {
  private own: Identity;
  private current: PeerClient | null = null;
  private trusted: string | null = null;
  private readonly superseded = new Set<string>();

  constructor(private readonly home: Home, private readonly config: Config) {
    settleRenewal(home);
    this.own = readIdentity(home.nodeCertificate, home.nodeKey);
  }

  /** A certificate is pinned for the peer. */
  get pinned(): boolean {
    return pinnedPeer(this.home) !== null;
  }

  /** What the listener needs: this node's identity and whom it lets in. */
  tls(): PeerTls {
    const once = [
      { path: joinCertificatePath(this.home), use: "join" as const },
      { path: tokenCertificatePath(this.home), use: "token" as const },
    ];
    return {
      cert: this.own.cert,
      key: this.own.key,
      trusted: [
        ...pinnedPeers(this.home).map((pem) => ({ pem, use: "peer" as const })),
        ...once.filter(({ path }) => existsSync(path)).map(({ path, use }) => ({
          pem: readFileSync(path, "utf8"),
          use,
        })),
      ],
      superseded: this.superseded,
    };
  }

  /** The certificates of either side were renewed: new connections use them, nothing that is open is broken off. */
  takeOver(dropped: string | null = null): void {
    this.own = readIdentity(this.home.nodeCertificate, this.home.nodeKey);
    if (dropped !== null) this.superseded.add(dropped);
    this.trusted = this.trustedNow();
    this.current?.reload(this.clientTls());
  }

  /** Own certificate, as it is shown. */
  get certificate(): string {
    return this.own.cert;
  }

  /** True once after the certificates in the trust folder have changed: a new pack opens a new join. */
  trustChanged(): boolean {
    const now = this.trustedNow();
    const changed = this.trusted !== null && this.trusted !== now;
    this.trusted = now;
    if (changed) this.close();
    return changed;
  }

  private trustedNow(): string {
    return this.tls().trusted.map(({ pem, use }) => use + pem).join();
  }

  private clientTls(): ClientTls {
    return { cert: this.own.cert, key: this.own.key, pinned: pinnedPeers(this.home) };
  }

  /** The client. Throws UnreachableError while no peer is pinned. */
  client(): PeerClient {
    if (!this.pinned) {
      throw new UnreachableError(
        "Cannot reach the peer: no secondary has joined yet",
        "set the secondary up and run it",
      );
    }
    this.current ??= new PeerClient({
      address: splitAddress(this.config.peer.address),
      tls: this.clientTls(),
    });
    return this.current;
  }

  /** The client once this node is trusted by the peer; a new secondary introduces itself first. Null: nobody joined. */
  async joined(self: Omit<JoinRequest, "certificate">): Promise<PeerClient | null> {
    if (!this.pinned) return null;
    await introduce({
      home: this.home,
      address: splitAddress(this.config.peer.address),
      pinned: pinnedPeers(this.home),
      own: this.own,
      self,
    });
    return this.client();
  }

  /** Pins the certificate of a secondary that joins. */
  pin(request: JoinRequest, name: string): JoinAnswer {
    pinPeer(this.home, request.certificate);
    this.close();
    return { pinned: true, name };
  }

  /** The certificate that a secondary may join with; null where no join is open. */
  openJoin(): string | null {
    const path = joinCertificatePath(this.home);
    return this.pinned && existsSync(path) ? readFileSync(path, "utf8") : null;
  }

  /**
   * The peer that is pinned runs what the pack of this join was made for: it came in without it, as it was known before,
   * and nobody else is to. Leaves a join alone that was opened since.
   */
  endJoin(certificate: string): void {
    if (this.openJoin() !== certificate) return;
    closeJoin(this.home);
    this.trusted = this.trustedNow();
  }

  /** How much of the peer's WAL has not come here yet, in bytes; null if it is not known. */
  pendingBytes(report: NodeReport | null, incoming: { applied: bigint; pendingBytes: number; reached: bigint }) {
    if (!report) return null;
    if (!report.capturing) return 0;
    const behind = parseLsn(report.current_lsn) - incoming.reached;
    return Math.max(incoming.pendingBytes, behind > 0n ? Number(behind) : 0);
  }

  close(): void {
    this.current?.close();
    this.current = null;
  }
}
