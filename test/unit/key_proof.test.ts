// The key proof: true with one key, false with two, and of no use to anyone who reflects, replays or changes it.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import type { KeyProofAnswer, KeyProofBegun, KeyProofRequest } from "../../agent/api/schemas.ts";
import { keyProofAnswer, keyProofBegun, keyProofRequest } from "../../agent/api/schemas.ts";
import { RefusedError } from "../../agent/errors.ts";
import { askForProof, type ExchangeSides, ProofAnswerer, type ProofCalls } from "../../agent/node/key_exchange.ts";
import { type Exchange, isProof, newChallenge, proofDue, proofKey, proofOf } from "../../agent/trust/key_proof.ts";

const keyOf = (bytes: Buffer) => proofKey({ path: "/k", bytes });
const right = keyOf(randomBytes(32));
const wrong = keyOf(randomBytes(32));
const a: ExchangeSides = {
  self: { name: "a.example", role: "primary" },
  peer: { name: "b.example", role: "secondary" },
  pairId: () => "pair",
};
const b: ExchangeSides = { self: a.peer, peer: a.self, pairId: () => "pair" };

/** Calls that end at an answerer, through the schemas as over the wire. `seen` is all that went over it. */
function callsTo(answerer: ProofAnswerer, key: Buffer | null, told: boolean[] = [], seen: unknown[] = []): ProofCalls {
  const ask = (request: KeyProofRequest) => {
    seen.push(request);
    const answer = answerer.answer(key, keyProofRequest.parse(request), (same) => told.push(same));
    seen.push(answer);
    return answer;
  };
  return {
    begin: async (request) => keyProofBegun.parse(await ask({ step: "begin", ...request })),
    prove: async (request) => keyProofAnswer.parse(await ask({ step: "prove", ...request })),
  };
}

for (const [here, there, same] of [[right, right, true], [right, wrong, false], [wrong, right, false]] as const) {
  test(`asked with ${here === right ? "the" : "another"} key of ${there === right ? "the" : "another"}: ${same}`, async () => {
    const told: boolean[] = [];
    const seen: unknown[] = [];
    assert.equal(await askForProof(here, a, callsTo(new ProofAnswerer(b), there, told, seen)), same);
    assert.deepEqual(told, [same], "the answerer knows it as well");
    const wire = JSON.stringify(seen);
    for (const key of [right, wrong]) assert.ok(!wire.includes(key.toString("hex")));
    // Who has not shown the key gets no proof to compute with.
    if (!same) assert.equal((seen.at(-1) as KeyProofAnswer).proof, null);
  });
}

test("an answerer that says yes without a proof, or with a wrong one, is not believed", async () => {
  const begun: KeyProofBegun = { ...b.self, challenge: newChallenge() };
  for (const proof of [null, "00".repeat(32), newChallenge()]) {
    const lying: ProofCalls = {
      begin: () => Promise.resolve(begun),
      prove: () => Promise.resolve({ same: true, proof }),
    };
    assert.equal(await askForProof(right, a, lying), false);
  }
});

test("a peer without the key that reflects what it is sent proves nothing", async () => {
  // It answers a's challenge with a's own words, and takes a's proof back to a.
  const answererOfA = new ProofAnswerer(a);
  let proofs = 0;
  const reflecting: ProofCalls = {
    begin: () => Promise.resolve({ ...b.self, challenge: newChallenge() }),
    prove: ({ proof }) => {
      const begun = answererOfA.answer(right, { step: "begin", ...b.self, challenge: newChallenge() }, () => {});
      const { challenge } = begun as KeyProofBegun;
      const answer = answererOfA.answer(right, { step: "prove", challenge, proof }, () => proofs++) as KeyProofAnswer;
      assert.deepEqual(answer, { same: false, proof: null });
      return Promise.resolve({ same: true, proof });
    },
  };
  assert.equal(await askForProof(right, a, reflecting), false);
  assert.equal(proofs, 1);
  // The same challenge back, a's own role, another name: nothing is proven to it at all.
  for (
    const said of [
      (challenge: string) => ({ ...b.self, challenge }),
      () => ({ ...a.self, challenge: newChallenge() }),
      () => ({ ...b.self, name: "c.example", challenge: newChallenge() }),
    ]
  ) {
    const calls: ProofCalls = {
      begin: ({ challenge }) => Promise.resolve(said(challenge)),
      prove: () => assert.fail("a proof was given away"),
    };
    await assert.rejects(askForProof(right, a, calls), RefusedError);
  }
});

test("a challenge is good for one proof, and for half a minute", () => {
  const answerer = new ProofAnswerer(b);
  const mine = newChallenge();
  const begin = () =>
    answerer.answer(right, { step: "begin", ...a.self, challenge: mine }, () => {}, 0) as KeyProofBegun;
  const prove = ({ challenge }: KeyProofBegun, now: number) => {
    const exchange = {
      pairId: "pair",
      asker: a.self,
      answerer: b.self,
      askerChallenge: mine,
      answererChallenge: challenge,
    };
    return answerer.answer(
      right,
      { step: "prove", challenge, proof: proofOf(right, "asker", exchange) },
      () => {},
      now,
    );
  };
  const first = begin();
  assert.equal((prove(first, 1) as KeyProofAnswer).same, true);
  assert.throws(() => prove(first, 2), /its challenge is not open/);
  assert.throws(() => prove(begin(), 30_001), /its challenge is not open/);
  const old = begin();
  const newer = begin();
  assert.throws(() => prove(old, 1), /its challenge is not open/);
  assert.throws(() => prove(newer, 1), /its challenge is not open/, "a wrong try closes it");
  const open = begin();
  assert.throws(() => answerer.answer(null, { step: "begin", ...a.self, challenge: mine }, () => {}), RefusedError);
  assert.throws(() => prove(open, 1), /its challenge is not open/, "without a key nothing stays open");
});

test("a proof fits nothing but its own exchange, side and key", () => {
  const text = fc.string({ minLength: 1, maxLength: 8 });
  const party = fc.record({ name: text, role: fc.constantFrom("primary" as const, "secondary" as const) });
  const hex = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));
  const exchange: fc.Arbitrary<Exchange> = fc.record({
    pairId: text,
    asker: party,
    answerer: party,
    askerChallenge: hex,
    answererChallenge: hex,
  });
  const sides = fc.constantFrom("asker" as const, "answerer" as const);
  fc.assert(fc.property(exchange, exchange, sides, sides, (one, other, by, checked) => {
    const proof = proofOf(right, by, one);
    assert.ok(isProof(right, by, one, proof));
    assert.ok(!isProof(wrong, by, one, proof));
    const alike = JSON.stringify(one) === JSON.stringify(other) && by === checked;
    assert.equal(isProof(right, checked, other, proof), alike);
    // One part exchanged for the other's is enough.
    for (const part of Object.keys(one) as (keyof Exchange)[]) {
      const mixed = { ...one, [part]: other[part] };
      const same = JSON.stringify(mixed[part]) === JSON.stringify(one[part]);
      assert.equal(isProof(right, by, mixed, proof), same, part);
    }
    const swapped = { ...one, asker: one.answerer, answerer: one.asker };
    if (JSON.stringify(one.asker) !== JSON.stringify(one.answerer)) assert.ok(!isProof(right, by, swapped, proof));
  }));
});

test("malformed requests are refused by the schema, malformed proofs by the comparison", () => {
  const good = { step: "begin", ...a.self, challenge: newChallenge() };
  assert.ok(keyProofRequest.safeParse(good).success);
  for (
    const bad of [{ challenge: "ab" }, { challenge: good.challenge.toUpperCase() + "g" }, { step: "other" }, {
      role: "x",
    }, { more: 1 }]
  ) {
    assert.ok(!keyProofRequest.safeParse({ ...good, ...bad }).success, JSON.stringify(bad));
  }
  const exchange = { pairId: "p", asker: a.self, answerer: b.self, askerChallenge: "", answererChallenge: "" };
  for (const shown of ["", "zz", "00", "00".repeat(33)]) assert.equal(isProof(right, "asker", exchange, shown), false);
});

for (
  const [provenAt, triedAt, now, due] of [
    [null, null, 0, true],
    [null, 1000, 5999, false],
    [null, 1000, 6000, true],
    [1000, 1000, 60_999, false],
    [1000, 1000, 61_000, true],
    [1000, 60_000, 61_000, false],
  ] as const
) {
  test(`proven at ${provenAt}, tried at ${triedAt}: at ${now} it is ${due ? "" : "not "}time`, () => {
    assert.equal(proofDue(now, { provenAt, triedAt }), due);
  });
}
