// Watches the master key while the node runs: whether it can be used, every two seconds, and whether the peer has the same,
// every minute and whenever the key or the connection changes. Keeps no key but the one for proofs.
import type { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { getLogger } from "@logtape/logtape";
import type { PeerClient } from "../api/client.ts";
import type { KeyProofAnswer, KeyProofBegun, KeyProofRequest } from "../api/schemas.ts";
import type { Config } from "../config.ts";
import { reason } from "../errors.ts";
import type { Home } from "../home.ts";
import type { PeerContact } from "../role/heartbeat.ts";
import { proofDue, proofKey } from "../trust/key_proof.ts";
import { type KeyLook, KeyLooker } from "../trust/key_watch.ts";
import { askForProof, type ExchangeSides, ProofAnswerer } from "./key_exchange.ts";
import { Watch } from "./watch.ts";

export interface KeyWatchOptions {
  readonly home: Home;
  readonly config: Pick<Config, "node" | "peer" | "failover">;
  readonly client: () => PeerClient;
  readonly contact: () => Pick<PeerContact, "report" | "silentMs">;
  readonly pairId: () => string;
  readonly everyMs?: number;
}

/** What status says of the key. */
export interface KeyView {
  readonly path: string;
  readonly ok: boolean;
  readonly sameAsPeer: boolean | null;
  readonly problem: string | null;
}

const log = getLogger(["hapair", "key"]);

export class KeyWatch {
  readonly #looker: KeyLooker;
  readonly #answerer: ProofAnswerer;
  readonly #watch: Watch;
  readonly #sides: ExchangeSides;
  #look: { path: string; problem: string | null };
  #proofKey: Buffer | null = null;
  #same: boolean | null = null;
  #provenAt: number | null = null;
  #triedAt: number | null = null;
  #failure: string | null = null;

  constructor(private readonly options: KeyWatchOptions) {
    this.#look = { path: options.home.manageKeyFile, problem: null };
    this.#looker = new KeyLooker(options.home);
    const { node, peer } = options.config;
    this.#sides = {
      self: { name: node.name, role: node.role },
      peer: { name: peer.name, role: node.role === "primary" ? "secondary" : "primary" },
      pairId: () => options.pairId(),
    };
    this.#answerer = new ProofAnswerer(this.#sides);
    this.#watch = new Watch({
      everyMs: options.everyMs ?? 2000,
      work: () => this.#turn(),
      ended: (failure) => failure !== null && log.error("the watch of the key failed: {why}", { why: reason(failure) }),
    });
  }

  /** Resolves after the first look: from then on the view is true. */
  async start(): Promise<void> {
    this.#note(await this.#looker.look());
    this.#watch.start();
  }

  stop(): Promise<void> {
    return this.#watch.stop();
  }

  view(): KeyView {
    const { path, problem } = this.#look;
    return { path, ok: problem === null, sameAsPeer: this.#same, problem };
  }

  /** The peer asks for a proof. */
  answer(request: KeyProofRequest): KeyProofBegun | KeyProofAnswer {
    return this.#answerer.answer(this.#proofKey, request, (same) => this.#learn(same));
  }

  async #turn(): Promise<void> {
    this.#note(await this.#looker.look());
    if (!this.#inSight()) {
      // The peer's key may be exchanged meanwhile: then nobody knows.
      this.#forget();
    } else if (this.#proofKey && proofDue(performance.now(), { provenAt: this.#provenAt, triedAt: this.#triedAt })) {
      await this.#prove(this.#proofKey);
    }
  }

  /** The peer answers heartbeats, and belongs to this node. */
  #inSight(): boolean {
    const { report, silentMs } = this.options.contact();
    return report !== null && silentMs < this.options.config.failover.after_ms;
  }

  #note(look: KeyLook): void {
    const before = this.#look;
    this.#look = { path: look.path, problem: look.problem };
    if (look.problem !== null && look.problem !== before.problem) {
      log.error("{problem}. Try: {remedy}", { problem: look.problem, remedy: look.remedy });
    } else if (look.problem === null && before.problem !== null) {
      log.info("the master key can be used again: {path}", { path: look.path });
    } else if (look.problem === null && this.#proofKey && before.path !== look.path) {
      log.info("the master key is read from {path} from now on", { path: look.path });
    }
    const key = look.key === null ? null : proofKey(look.key);
    const changed = digest(key) !== digest(this.#proofKey);
    this.#proofKey = key;
    if (changed) this.#forget();
  }

  #forget(): void {
    this.#same = this.#provenAt = this.#triedAt = null;
  }

  async #prove(key: Buffer): Promise<void> {
    this.#triedAt = performance.now();
    const client = this.options.client();
    try {
      const same = await askForProof(key, this.#sides, {
        begin: (request) => client.beginKeyProof(request),
        prove: (request) => client.proveKey(request),
      });
      this.#learn(same);
      this.#failure = null;
    } catch (error) {
      this.#same = null;
      const failure = reason(error);
      if (failure !== this.#failure) log.warn("the key is not proven to be the peer's: {why}", { why: failure });
      this.#failure = failure;
    }
  }

  #learn(same: boolean): void {
    const peer = this.#sides.peer.name;
    if (same && this.#same !== true) log.info("{peer} has the same master key", { peer });
    if (!same && this.#same !== false) log.error("{peer} has another master key. Try: agent key check", { peer });
    this.#same = same;
    this.#provenAt = performance.now();
  }
}

function digest(key: Buffer | null): string | null {
  return key === null ? null : createHash("sha256").update(key).digest("hex");
}
