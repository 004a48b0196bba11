// Proof that two nodes have the same master key, without sending it: each answers the other's challenge by an HMAC. Pure.
// Both challenges, who asks and who answers, names, roles and pair are in it, so that no proof serves for anything else.
import { Buffer } from "node:buffer";
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Role } from "../report.ts";
import { deriveKey, type MasterKey } from "./key.ts";

export interface Party {
  readonly name: string;
  readonly role: Role;
}

/** One exchange, as both sides know it before anything is proven. Challenges are hex. */
export interface Exchange {
  readonly pairId: string;
  readonly asker: Party;
  readonly answerer: Party;
  readonly askerChallenge: string;
  readonly answererChallenge: string;
}

/** The key that proofs are made with: of no use for anything but that. */
export function proofKey(key: MasterKey): Buffer {
  return deriveKey(key, "hapair key proof v1");
}

export function newChallenge(): string {
  return randomBytes(32).toString("hex");
}

/** What `by` shows in this exchange. */
export function proofOf(key: Buffer, by: "asker" | "answerer", exchange: Exchange): string {
  return mac(key, by, exchange).toString("hex");
}

/** Whether `shown` is what `by` must show. Takes as long for a wrong proof as for the right one. */
export function isProof(key: Buffer, by: "asker" | "answerer", exchange: Exchange, shown: string): boolean {
  const given = Buffer.from(shown, "hex");
  const wanted = mac(key, by, exchange);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function mac(key: Buffer, by: string, exchange: Exchange): Buffer {
  const { pairId, asker, answerer, askerChallenge, answererChallenge } = exchange;
  // As JSON, so that no two exchanges are written alike.
  const text = JSON.stringify([
    "hapair key proof v1",
    by,
    pairId,
    [asker.name, asker.role],
    [answerer.name, answerer.role],
    askerChallenge,
    answererChallenge,
  ]);
  return createHmac("sha256", key).update(text).digest();
}

/** How long a proof counts as fresh, and how soon a failed try is followed by another. */
const everyMs = 60_000;
const againMs = 5000;

/** Whether it is time to prove again. Times are monotonic; null: not since the key or the connection changed. */
export function proofDue(
  now: number,
  last: { readonly provenAt: number | null; readonly triedAt: number | null },
): boolean {
  if (last.triedAt !== null && now - last.triedAt < againMs) return false;
  return last.provenAt === null || now - last.provenAt >= everyMs;
}
