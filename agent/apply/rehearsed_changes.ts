// This node's own changes as the applier of a rehearsal sees them: with what the rehearsal has decided so far, which the
// node itself must never learn of. Nothing of it remains when the rehearsal is over.
import type { Word } from "../merge/answers.ts";
import type { OwnChanges } from "./own_changes.ts";

export class RehearsedChanges {
  /** Row -> the last word on it: of the batches that are through, and of the one at hand. */
  private readonly kept = new Map<string, Word>();
  private readonly open = new Map<string, Word>();

  /** `own` with the decisions of this rehearsal laid over: no change that waits has seen any of them. */
  over(own: OwnChanges): OwnChanges {
    const decided = (row: string) => this.open.get(row) ?? this.kept.get(row);
    return {
      ...own,
      verdictUnseen: (row, seen) => decided(row)?.renews ?? own.verdictUnseen(row, seen),
      renewedTime: (row) => {
        const decision = decided(row);
        return decision ? decision.time : own.renewedTime(row);
      },
      lastVerdict: (row, seen) => decided(row) ?? own.lastVerdict(row, seen),
      renewedRows: (prefix, seen) => {
        const renewed = new Set(own.renewedRows(prefix, seen).filter((row) => decided(row)?.renews !== false));
        for (const row of [...this.kept.keys(), ...this.open.keys()]) {
          if (row.startsWith(prefix) && decided(row)!.renews) renewed.add(row);
        }
        return [...renewed];
      },
      noteVerdict: (row, renews, time) => void this.open.set(row, { renews, time }),
      withdrawVerdict: (row) => void this.open.delete(row),
      verdictsCommitted: () => {
        for (const [row, decision] of this.open) this.kept.set(row, decision);
        this.open.clear();
      },
    };
  }
}
