// The two sides of a key proof over the peer API. The asker shows its proof first: who has the peer's certificate but not
// the key learns from the answerer no more than "no". Never tells a result that was not proven.
import { RefusedError } from "../errors.ts";
import type { KeyProofAnswer, KeyProofBegun, KeyProofRequest } from "../api/schemas.ts";
import { type Exchange, isProof, newChallenge, type Party, proofOf } from "../trust/key_proof.ts";
import type { Buffer } from "node:buffer";

export interface ExchangeSides {
  readonly self: Party;
  readonly peer: Party;
  pairId(): string;
}

export interface ProofCalls {
  begin(request: Party & { challenge: string }): Promise<KeyProofBegun>;
  prove(request: { challenge: string; proof: string }): Promise<KeyProofAnswer>;
}

/** Asks the peer. True: it has the same key; false: another one. Throws where it cannot tell. */
export async function askForProof(key: Buffer, sides: ExchangeSides, calls: ProofCalls): Promise<boolean> {
  const { self } = sides;
  const askerChallenge = newChallenge();
  const begun = await calls.begin({ ...self, challenge: askerChallenge });
  checkParty(sides, begun, askerChallenge);
  const exchange: Exchange = {
    pairId: sides.pairId(),
    asker: self,
    answerer: { name: begun.name, role: begun.role },
    askerChallenge,
    answererChallenge: begun.challenge,
  };
  const proof = proofOf(key, "asker", exchange);
  const answer = await calls.prove({ challenge: begun.challenge, proof });
  return answer.same && answer.proof !== null && isProof(key, "answerer", exchange, answer.proof);
}

/** Who answers in another's name, in this node's role or with this node's own challenge is nobody to prove anything to. */
function checkParty({ self, peer }: ExchangeSides, said: Party & { challenge: string }, own: string): void {
  if (said.role !== self.role && said.name === peer.name && said.challenge !== own) return;
  throw new RefusedError(
    `Cannot prove the key: ${said.name} (${said.role}) is not the peer of ${self.name}, ${peer.name}`,
    "see [peer] name in agent.toml on both servers",
  );
}

/** The answering side. One exchange is open at a time, for one proof, and not for long. */
export class ProofAnswerer {
  #open: { exchange: Exchange; at: number } | null = null;

  constructor(private readonly sides: ExchangeSides, private readonly openMs = 30_000) {}

  /** `told`: what was found out about the peer's key. */
  answer(
    key: Buffer | null,
    request: KeyProofRequest,
    told: (same: boolean) => void,
    now = performance.now(),
  ): KeyProofBegun | KeyProofAnswer {
    if (key === null) {
      this.#open = null;
      throw new RefusedError(
        `Cannot prove the key: that of ${this.sides.self.name} cannot be used`,
        "agent key check there",
      );
    }
    return request.step === "begin" ? this.#begin(request, now) : this.#finish(key, request, told, now);
  }

  #begin({ name, role, challenge }: KeyProofRequest & { step: "begin" }, now: number): KeyProofBegun {
    const { self } = this.sides;
    const answererChallenge = newChallenge();
    checkParty(this.sides, { name, role, challenge }, answererChallenge);
    const exchange: Exchange = {
      pairId: this.sides.pairId(),
      asker: { name, role },
      answerer: self,
      askerChallenge: challenge,
      answererChallenge,
    };
    this.#open = { exchange, at: now };
    return { ...self, challenge: answererChallenge };
  }

  #finish(
    key: Buffer,
    { challenge, proof }: KeyProofRequest & { step: "prove" },
    told: (same: boolean) => void,
    now: number,
  ): KeyProofAnswer {
    const open = this.#open;
    this.#open = null;
    if (open === null || open.exchange.answererChallenge !== challenge || now - open.at > this.openMs) {
      throw new RefusedError("Cannot take the proof: its challenge is not open", "begin again");
    }
    const same = isProof(key, "asker", open.exchange, proof);
    told(same);
    return { same, proof: same ? proofOf(key, "answerer", open.exchange) : null };
  }
}
