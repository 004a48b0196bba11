// What the command line may ask about the merge, as operations of the admin API: its state, hold, release, rehearse. Only
// the primary decides, so only there they do anything.
import { performance } from "node:perf_hooks";
import { getLogger } from "@logtape/logtape";
import { z } from "zod";
import { type AdminOperation, adminOperation } from "../api/admin_routes.ts";
import type { ConflictEntry } from "../apply/conflict_log.ts";
import { type Lsn, parseLsn } from "../change/lsn.ts";
import { RefusedError } from "../errors.ts";
import { isUnreachable, type Sql } from "../postgres/connect.ts";
import type { NodeReport, Role } from "../report.ts";
import { Findings, type Rehearsal } from "../review/rehearsed.ts";
import type { MergeHold } from "./merge_hold.ts";
import type { Replication } from "./replication.ts";

export interface MergeParts {
  readonly role: Role;
  readonly sql: Sql;
  readonly hold: MergeHold;
  readonly replication: () => Replication;
  readonly secretOf: (label: string) => readonly string[];
  /** The peer by its last report. */
  readonly peer: () => { readonly name: string; readonly reachable: boolean; readonly report: NodeReport | null };
  /** What is told in a report has changed. */
  readonly tellPeer: () => void;
}

/** The answer of GET /merge; what a script may hold on to. */
export interface MergeState {
  readonly role: Role;
  readonly held: boolean;
  /** ISO; null where it is not held, and at the secondary. */
  readonly held_since: string | null;
  readonly rehearsing: boolean;
  readonly peer: { readonly name: string; readonly reachable: boolean };
  /** How much of the peer's WAL has not been read here; null if that is not known. */
  readonly waiting_bytes: number | null;
}

const log = getLogger(["hapair", "rehearsal"]);

const nothing = z.strictObject({});
const rehearseInput = z.strictObject({ timeout_seconds: z.int().min(1).max(86_400) });

/** `ready`: throws while the node is still starting. */
export function mergeOperations(ready: () => MergeParts): AdminOperation[] {
  const atPrimary = (what: string): MergeParts => {
    const parts = ready();
    if (parts.role === "primary") return parts;
    const { name } = parts.peer();
    throw new RefusedError(`Cannot ${what} here: only the primary decides`, `run it on ${name}`);
  };
  return [
    { method: "GET", path: "/merge", run: () => stateOf(ready()) },
    adminOperation("/merge/hold", nothing, async () => {
      const parts = atPrimary("hold the merge");
      parts.hold.hold();
      log.warn("the merge is held: nothing of the secondary's is applied until it is released");
      await changed(parts);
      return await stateOf(parts);
    }),
    adminOperation("/merge/release", nothing, async () => {
      const parts = atPrimary("release the merge");
      parts.hold.release();
      log.info("the merge is released");
      await changed(parts);
      return await stateOf(parts);
    }),
    adminOperation(
      "/merge/rehearse",
      rehearseInput,
      ({ timeout_seconds }, gone) => rehearse(atPrimary("rehearse the merge"), timeout_seconds * 1000, gone),
    ),
  ];
}

async function changed({ replication, tellPeer }: MergeParts): Promise<void> {
  await replication().holdChanged();
  tellPeer();
}

async function rehearse(parts: MergeParts, timeoutMs: number, signal: AbortSignal): Promise<Rehearsal> {
  let findings = new Findings(parts.secretOf);
  const begin = () => {
    const fresh = findings = new Findings(parts.secretOf);
    return (entry: ConflictEntry) => fresh.add(entry);
  };
  const startedAt = performance.now();
  const running = parts.replication().rehearse({ timeoutMs, signal, begin });
  parts.tellPeer();
  try {
    const { transactions, changes } = await running;
    log.info("the merge was rehearsed: {changes} changes wait", { changes });
    const seconds = Number(((performance.now() - startedAt) / 1000).toFixed(3));
    return { held: parts.hold.since !== null, transactions, changes, ...findings.result(), seconds };
  } finally {
    parts.tellPeer();
  }
}

async function stateOf({ role, sql, hold, replication, peer }: MergeParts): Promise<MergeState> {
  const { name, reachable, report } = peer();
  const primary = role === "primary";
  const held = primary ? hold.since !== null : report?.merge_held === true;
  const applied = await appliedBy(sql);
  const { reached } = replication().status();
  const read = applied === null || reached > applied ? reached : applied;
  const known = report !== null && (applied !== null || !report.capturing);
  const ahead = known ? report.capturing ? Number(parseLsn(report.current_lsn) - read) : 0 : null;
  return {
    role,
    held,
    held_since: primary ? hold.since : null,
    rehearsing: replication().rehearsing,
    peer: { name, reachable },
    waiting_bytes: ahead === null ? null : Math.max(0, ahead),
  };
}

/** null while the database cannot be reached: a merge can be held all the same. */
async function appliedBy(sql: Sql): Promise<Lsn | null> {
  try {
    const [{ applied }] = await sql`SELECT applied_lsn::text AS applied FROM ha.progress`;
    return parseLsn(applied);
  } catch (error) {
    if (!isUnreachable(error)) throw error;
    return null;
  }
}
