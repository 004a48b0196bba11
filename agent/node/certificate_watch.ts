// The certificates of a running node: a new one of its own is brought to the peer and then into use, one of the peer's is
// pinned, and the end of either is told of in time. Breaks no connection off. What is decided is in trust/.
import { existsSync } from "node:fs";
import { getLogger } from "@logtape/logtape";
import { z } from "zod";
import { type AdminOperation, adminOperation } from "../api/admin_routes.ts";
import type { CertificateAnswer, CertificateRequest } from "../api/schemas.ts";
import type { Config } from "../config.ts";
import { AgentError, reason, UnreachableError } from "../errors.ts";
import type { Home } from "../home.ts";
import type { StatusInput } from "../monitor/status.ts";
import { fingerprint, hostOf, makeIdentity, readIdentity } from "../trust/certificates.ts";
import { expiryAlerts } from "../trust/certificate_view.ts";
import { checkImport } from "../trust/import.ts";
import { joinIdentityPaths } from "../trust/join.ts";
import { pinnedPeers, takeAnnouncement } from "../trust/pins.ts";
import {
  afterAnswer,
  beginRenewal,
  endRenewal,
  finishAlone,
  readRenewal,
  type Renewal,
  renewalCertificate,
  switchIdentity,
} from "../trust/renewal.ts";
import type { Peer } from "./peer.ts";
import type { Troubles } from "./troubles.ts";
import { Watch } from "./watch.ts";

export interface CertificateWatchOptions {
  readonly home: Home;
  readonly config: Pick<Config, "node" | "peer">;
  readonly peer: Peer;
  /** The listener shows and accepts from now on what `peer` says. */
  readonly reload: () => void;
  readonly onTrouble: Troubles["set"];
  readonly everyMs?: number;
}

const renewalRequest = z.strictObject({
  /** PEM; null: a new one that is signed by itself. */
  identity: z.strictObject({ cert: z.string().max(100_000), key: z.string().max(20_000) }).nullable(),
  /** In use at once, without asking the peer. */
  now: z.boolean(),
});

const log = getLogger(["hapair", "certificates"]);

export class CertificateWatch {
  readonly #watch: Watch;
  #alerts: StatusInput["problems"] = [];

  constructor(private readonly options: CertificateWatchOptions) {
    this.#watch = new Watch({
      everyMs: options.everyMs ?? 2000,
      work: () => this.#turn(),
      ended: (failure) => {
        if (failure instanceof UnreachableError) return; // the heartbeat tells of that
        const remedy = failure instanceof AgentError ? failure.remedy : "see the log of both agents";
        options.onTrouble("certificate_renewal", failure === null ? null : { message: reason(failure), remedy });
      },
    });
  }

  start(): void {
    this.#watch.start();
  }

  stop(): Promise<void> {
    return this.#watch.stop();
  }

  /** Certificates that end soon. */
  alerts(): StatusInput["problems"] {
    return this.#alerts;
  }

  /** What `agent cert renew` and `agent cert import` ask for. */
  operations(): AdminOperation[] {
    return [adminOperation("/certificate", renewalRequest, (request) => this.#begin(request))];
  }

  /** The peer tells of a new certificate of its own. */
  take({ certificate }: CertificateRequest, shown: string): CertificateAnswer {
    const { home, peer, reload, config } = this.options;
    const before = pinnedPeers(home).join();
    const taken = takeAnnouncement(home, certificate, shown, Date.now());
    if (pinnedPeers(home).join() !== before) {
      peer.takeOver(taken.dropped);
      reload();
      const what = taken.dropped === null
        ? "is accepted beside the present one"
        : "is in use, the former one is dropped";
      log.info("a new certificate of {name} " + what, { name: config.peer.name });
    }
    return { fingerprint: taken.fingerprint, in_use: taken.inUse };
  }

  async #begin({ identity: given, now }: z.infer<typeof renewalRequest>): Promise<Renewal> {
    const { home, config } = this.options;
    const { name } = config.node;
    const identity = given === null
      ? await makeIdentity(hostOf(name))
      : checkImport({ bundle: given.cert, key: given.key }, hostOf(name), Date.now(), "the certificate");
    const renewal = beginRenewal(home, identity, new Date());
    if (now) {
      finishAlone(home);
      this.#takeOver();
      return renewal;
    }
    log.info("a new certificate is ready: it is used once {peer} has pinned it", { peer: config.peer.name });
    this.#watch.wake();
    return renewal;
  }

  async #turn(): Promise<void> {
    const { home, peer, config } = this.options;
    this.#alerts = expiryAlerts(home, config, Date.now());
    if (readRenewal(home) !== null) {
      if (!peer.pinned) finishAlone(home);
      // A secondary that has not joined yet is not known by its certificate.
      else if (!existsSync(joinIdentityPaths(home).cert)) await this.#bring();
    }
    this.#takeOver();
  }

  /** This node's certificate, where it was changed without asking the peer. */
  #takeOver(): void {
    const { home, peer, reload } = this.options;
    const { cert } = readIdentity(home.nodeCertificate, home.nodeKey);
    if (fingerprint(cert) === fingerprint(peer.certificate)) return;
    peer.takeOver();
    reload();
    log.warn("this node's certificate has changed: the peer must know it by hand, or not know this node yet");
  }

  /** Tells the peer, uses it, shows that it is in use: as far as it goes now. */
  async #bring(): Promise<void> {
    const { home, peer, reload, config } = this.options;
    for (let tries = 0; tries < 3; tries++) {
      const renewal = readRenewal(home);
      if (renewal === null) return;
      const certificate = renewalCertificate(home, renewal);
      const answer = await peer.client().announceCertificate({ certificate });
      // Another command may have put a newer one in its place meanwhile.
      if (readRenewal(home)?.fingerprint !== renewal.fingerprint) continue;
      const step = afterAnswer(renewal, answer);
      if (step === "switch") {
        switchIdentity(home);
        peer.takeOver();
        reload();
        log.info("{peer} has pinned the new certificate: it is in use", { peer: config.peer.name });
      } else if (step === "end") {
        endRenewal(home);
        log.info("{peer} accepts the new certificate only", { peer: config.peer.name });
      }
    }
  }
}
