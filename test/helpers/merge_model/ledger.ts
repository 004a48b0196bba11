// What happened in a world of the model, beyond what its nodes know: all versions, the conflict log, and what went wrong.
// Judges by what the writers saw; never asked by anything that decides.
import type { ConflictKind, Role } from "../../../agent/merge/classify.ts";
import { ancestors, type Version } from "./values.ts";

export interface LogEntry {
  readonly kind: ConflictKind;
  /** The versions whose images are in the entry, and those of them that gave way. */
  readonly versions: readonly Version[];
  readonly losers: readonly Version[];
}

export class Ledger {
  readonly versions: Version[] = [];
  readonly entries: LogEntry[] = [];
  /** Deleted by somebody who saw them, before another row of their key came. */
  readonly ended: Version[] = [];
  readonly faults: string[] = [];

  log(kind: ConflictKind, winner: Role | "both", primary: Version | null, secondary: Version): void {
    const versions = primary ? [primary, secondary] : [secondary];
    const losers = winner === "both" ? [] : winner === "primary" ? [secondary] : primary ? [primary] : [];
    this.entries.push({ kind, versions, losers });
  }

  /** An edit that saw the other is no conflict. */
  judge(kind: ConflictKind, here: Version | undefined, incoming: Version): void {
    if (!here) return;
    if (ancestors(incoming).has(here) || ancestors(here).has(incoming)) this.faults.push(`a false conflict: ${kind}`);
  }

  mark(): readonly number[] {
    return [this.entries.length, this.ended.length, this.faults.length];
  }

  restore([entries, ended, faults]: readonly number[]): void {
    this.entries.length = entries;
    this.ended.length = ended;
    this.faults.length = faults;
  }
}
