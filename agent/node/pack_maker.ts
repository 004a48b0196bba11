// Makes the pack anew for a secondary that asks for it: one at a time, beside everything else. Cuts the secondary off from
// the former pack's generation, which is what it asks for.
import { randomBytes } from "node:crypto";
import { getLogger } from "@logtape/logtape";
import type { PackMaking } from "../api/peer_routes.ts";
import type { NewPackAnswer } from "../api/schemas.ts";
import type { Config } from "../config.ts";
import { AgentError, reason, RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { createNewPack } from "../setup/create_pack.ts";
import { Steps } from "../setup/steps.ts";

const log = getLogger(["hapair", "pack"]);

/** The maker of this node. */
export function packMaker({ home, config, serves }: { home: Home; config: Config; serves: () => boolean }): PackMaker {
  const refuse = () => {
    if (config.node.role === "primary") return;
    throw new RefusedError("Cannot make a pack: this is the secondary", "ask the primary");
  };
  const make = (steps: Steps) => createNewPack(home, { replace: true, askedBy: "peer" }, steps);
  return new PackMaker({ make, refuse, serves });
}

/** What a pack is made with, and when. */
export interface Making {
  readonly make: (steps: Steps) => Promise<unknown>;
  /** Throws where it will never be made. */
  readonly refuse: () => void;
  /** False: not now, but perhaps in a moment. */
  readonly serves: () => boolean;
}

/** Nothing is begun: whoever asks may ask again. */
const waiting: NewPackAnswer = { id: null, state: "waiting", bytes: 0, total: 0, error: null, remedy: null };

export class PackMaker implements PackMaking {
  #last: NewPackAnswer | null = null;

  constructor(private readonly how: Making) {}

  ask(id: string | null): NewPackAnswer {
    if (id !== null && id !== this.#last?.id) {
      // The agent was started anew, or another command asked in between.
      throw new RefusedError("Cannot tell how far that pack is: it is not being made", "run agent reseed again");
    }
    if (id !== null || this.#last?.state === "making") return this.#last!;
    this.how.refuse();
    if (!this.how.serves()) return waiting;
    const making = { id: randomBytes(8).toString("hex"), state: "making", bytes: 0, total: 0 } as const;
    this.#last = { ...making, error: null, remedy: null };
    log.info("the secondary has asked for a new pack: making it");
    const progress = (_name: string, bytes: number, total: number) => this.#note({ bytes, total });
    void this.how.make(new Steps(undefined, progress)).then(
      () => {
        log.info("the new pack is made");
        this.#note({ state: "made" });
      },
      (error) => {
        log.error("the new pack could not be made: {reason}", { reason: reason(error) });
        const remedy = error instanceof AgentError ? error.remedy : "see the log of the primary's agent";
        this.#note({ state: "failed", error: reason(error), remedy });
      },
    );
    return this.#last;
  }

  #note(change: Partial<NewPackAnswer>): void {
    this.#last = { ...this.#last!, ...change };
  }
}
