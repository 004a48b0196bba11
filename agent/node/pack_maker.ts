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
    if (config.node.role !== "primary") {
      throw new RefusedError("Cannot make a pack: this is the secondary", "ask the primary");
    }
    if (serves()) return;
    throw new RefusedError(
      "Cannot make a pack: the primary does not serve now",
      "try again when it does: agent status",
    );
  };
  return new PackMaker((steps) => createNewPack(home, { replace: true, askedBy: "peer" }, steps), refuse);
}

export class PackMaker implements PackMaking {
  #last: NewPackAnswer | null = null;

  constructor(private readonly make: (steps: Steps) => Promise<unknown>, private readonly refuse: () => void) {}

  ask(id: string | null): NewPackAnswer {
    if (id !== null && id !== this.#last?.id) {
      // The agent was started anew, or another command asked in between.
      throw new RefusedError("Cannot tell how far that pack is: it is not being made", "run agent reseed again");
    }
    if (id !== null || this.#last?.state === "making") return this.#last!;
    this.refuse();
    const making = { id: randomBytes(8).toString("hex"), state: "making", bytes: 0, total: 0 } as const;
    this.#last = { ...making, error: null, remedy: null };
    log.info("the secondary has asked for a new pack: making it");
    const progress = (_name: string, bytes: number, total: number) => this.#note({ bytes, total });
    void this.make(new Steps(undefined, progress)).then(
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
