// The merge as text for people: its state, and what a rehearsal has found. Pure. A value may hold anything: what a terminal
// would obey is shown as an escape.
import type { MergeState } from "../agent/node/merge_operations.ts";
import type { Rehearsal, RehearsedConflict, RehearsedGroup } from "../agent/review/rehearsed.ts";
import { keyText, printable } from "./conflict_text.ts";
import { aligned, bytes, count } from "./words.ts";

/** Held or not, and what is waiting. */
export function renderMergeState(state: MergeState): string {
  const { role, held, held_since, rehearsing, peer, waiting_bytes } = state;
  if (role === "secondary") {
    const primary = `The primary, ${peer.name}, merges`;
    if (!peer.reachable) return `${primary}; it does not answer.\n`;
    return held ? `${primary}: it applies nothing of this node's for now.\n` : `${primary}; it is not held.\n`;
  }
  const lines = [
    held
      ? `The merge is held since ${held_since}: nothing of ${peer.name} is applied here.`
      : `The merge is not held: what ${peer.name} has is applied as it comes.`,
    ...rehearsing ? ["A rehearsal runs."] : [],
    waiting_bytes === null
      ? `What is waiting is not known${peer.reachable ? "" : `: ${peer.name} does not answer`}.`
      : waiting_bytes === 0
      ? "Nothing is waiting."
      : `${bytes(waiting_bytes, "bytes")} of its WAL wait to be read${peer.reachable ? "" : ", by its last report"}.`,
    ...held ? ["See agent merge --dry-run, then agent merge --release."] : [],
  ];
  return lines.map((line) => line + "\n").join("");
}

/** `limit`: at most so many conflicts one by one. */
export function renderRehearsal(rehearsal: Rehearsal, limit: number): string {
  const { transactions, changes, conflicts_found, summary, conflicts, held, seconds } = rehearsal;
  if (transactions === 0) return "Nothing is waiting to be merged.\n";
  const shown = conflicts.slice(0, limit);
  const left = conflicts_found - shown.length;
  const lines = [
    `${count(transactions, "transaction")} with ${count(changes, "change")} ${
      transactions === 1 ? "is" : "are"
    } waiting to be merged.`,
    "",
    ...conflicts_found === 0 ? ["No conflict: all of it would be applied as it is."] : [
      `${count(conflicts_found, "conflict")}:`,
      "",
      ...aligned(summary.map(groupCells), [
        "TABLE",
        "KIND",
        "CONFLICTS",
        "PRIMARY",
        "SECONDARY",
        "BOTH",
        "QUARANTINED",
      ]),
      "",
      ...aligned(shown.map(conflictCells), ["TABLE", "KEY", "KIND", "WINNER", "WHY"]),
      ...left > 0 ? [`... and ${left} more: see --limit, or --json`] : [],
    ],
    "",
    `Rehearsed in ${seconds.toFixed(1)} s; nothing was changed. ${
      held ? "agent merge --release lets it happen." : "It happens now."
    }`,
  ];
  return lines.map((line) => line.trimEnd() + "\n").join("");
}

const groupCells = ({ table, kind, conflicts, primary, secondary, both, quarantined }: RehearsedGroup): string[] => [
  printable(table),
  kind,
  ...[conflicts, primary, secondary, both, quarantined].map(String),
];

const conflictCells = ({ table, key, kind, winner, why, quarantined }: RehearsedConflict): string[] => [
  printable(table),
  keyText(key),
  kind,
  winner,
  `${printable(why)}${quarantined ? "; the loser would be quarantined" : ""}`,
];
