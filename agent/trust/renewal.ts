// Changing this node's certificate while the peer looks on, as files below conf/tls: the new one is prepared (next.crt,
// next.key), pinned by the peer, taken into use, and seen by the peer. A crash anywhere in between ends in the same place.
// Never uses a certificate that the peer has not pinned durably before.
import { existsSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { removeDurably, syncFolder, writeDurably } from "../durable_file.ts";
import { reason, RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { fingerprint, type Identity, readIdentity } from "./certificates.ts";
import { closeJoin } from "./join.ts";

const schema = z.object({
  /** announced: the peer is told until it has pinned it. switching: files are moved. switched: the peer is shown it. */
  phase: z.enum(["announced", "switching", "switched"]),
  /** Of the new certificate. */
  fingerprint: z.string(),
  /** ISO */
  since: z.string(),
});
export type Renewal = z.infer<typeof schema>;

export function renewalPaths(home: Home): { state: string; cert: string; key: string } {
  const folder = dirname(home.nodeCertificate);
  return { state: join(folder, "renewal.json"), cert: join(folder, "next.crt"), key: join(folder, "next.key") };
}

/** The renewal that is under way, if one is. */
export function readRenewal(home: Home): Renewal | null {
  const { state } = renewalPaths(home);
  let text: string;
  try {
    text = readFileSync(state, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new UsageError(`Cannot read ${state}: ${reason(error)}`, "see that the agent may read its home");
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new UsageError(`Cannot read ${state}: it is not as it was written`, "remove it, and renew once more", {
      cause,
    });
  }
}

/** Prepares a new identity. Takes the place of one that the peer has not pinned yet; refused once one is in use. */
export function beginRenewal(home: Home, identity: Identity, now: Date): Renewal {
  const before = readRenewal(home);
  if (before !== null && before.phase !== "announced") {
    throw new RefusedError(
      "Cannot change the certificate: the peer has not yet seen the last new one in use",
      "wait until agent cert show tells of none under way",
    );
  }
  const renewal: Renewal = { phase: "announced", fingerprint: fingerprint(identity.cert), since: now.toISOString() };
  if (renewal.fingerprint === fingerprint(readIdentity(home.nodeCertificate, home.nodeKey).cert)) {
    throw new RefusedError("Cannot change the certificate: it is the one in use", "name a new one");
  }
  const { state, cert, key } = renewalPaths(home);
  // First the state: it must never speak of files that are half replaced.
  removeDurably(state);
  writeDurably(key, identity.key);
  writeDurably(cert, identity.cert);
  writeDurably(state, JSON.stringify(renewal));
  return renewal;
}

/** The certificate that the peer is told of, its issuers behind it. */
export function renewalCertificate(home: Home, { phase }: Renewal): string {
  return readFileSync(phase === "announced" ? renewalPaths(home).cert : home.nodeCertificate, "utf8");
}

/** The peer has pinned the new certificate: from now on it is this node's. A pack made before carries the former one. */
export function switchIdentity(home: Home): void {
  const renewal = readRenewal(home);
  if (renewal?.phase !== "announced") return settleRenewal(home);
  const { state, cert, key } = renewalPaths(home);
  const next = readIdentity(cert, key);
  if (fingerprint(next.cert) !== renewal.fingerprint) {
    throw new UsageError(`Cannot use ${cert}: it is not the certificate that was announced`, "renew once more");
  }
  writeDurably(state, JSON.stringify({ ...renewal, phase: "switching" }));
  settleRenewal(home);
}

/** Finishes the move of the files, also one that a crash has broken off, and closes the join of the former certificate. */
export function settleRenewal(home: Home): void {
  const renewal = readRenewal(home);
  if (renewal?.phase !== "switching") return;
  const { state, cert, key } = renewalPaths(home);
  if (existsSync(key)) renameSync(key, home.nodeKey);
  if (existsSync(cert)) renameSync(cert, home.nodeCertificate);
  syncFolder(dirname(home.nodeCertificate));
  closeJoin(home);
  writeDurably(state, JSON.stringify({ ...renewal, phase: "switched" }));
}

/** The peer has seen the new certificate in use, or there is no peer: it is done. */
export function endRenewal(home: Home): void {
  removeDurably(renewalPaths(home).state);
}

/** Where no peer knows this node yet, or it is to be set up anew, or cannot be told, it is done without asking it. */
export function finishAlone(home: Home): void {
  if (readRenewal(home) === null) return;
  switchIdentity(home);
  endRenewal(home);
}

/**
 * The certificate for a new pack. A peer that asks for the pack itself will see this node by what it has pinned until it
 * is set up: towards it nothing is cut short. An operator's pack is for a secondary that is set up anew by hand.
 */
export function packCertificate(home: Home, askedBy: "peer" | "operator"): string {
  if (askedBy === "peer") settleRenewal(home);
  else finishAlone(home);
  return readIdentity(home.nodeCertificate, home.nodeKey).cert;
}

export type RenewalStep = "switch" | "end" | "again";

/** What follows from the peer's answer to an announcement. Pure. */
export function afterAnswer(
  renewal: Pick<Renewal, "phase" | "fingerprint">,
  answer: { readonly fingerprint: string; readonly in_use: boolean },
): RenewalStep {
  if (answer.fingerprint !== renewal.fingerprint) return "again";
  if (renewal.phase === "announced") return "switch";
  return renewal.phase === "switched" && answer.in_use ? "end" : "again";
}
