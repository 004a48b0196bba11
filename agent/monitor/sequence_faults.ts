// Judges whether a sequence can go on giving out values on two servers, and puts what is wrong into words. Pure.
// The words change only when something new is wrong, not with every value: they go into the log.

/** A sequence as it is now; numbers as PostgreSQL writes them (see postgres/sequences.ts). */
export interface JudgedSequence {
  readonly label: string;
  readonly increment: string;
  readonly min: string;
  readonly max: string;
  readonly cycle: boolean;
  readonly upcoming: string;
  readonly columnMax: string | null;
  readonly cycleOff: boolean;
  readonly tooLarge: boolean;
  /** It has to be mended, and could not be for other sessions. */
  readonly held: boolean;
}

export type SequenceFault = "used_up" | "nearly_used_up" | "not_split" | "too_large" | "short_cycle" | "held";

/** A cycle of fewer values of one node's is nothing that rows could rely on. */
const fewestInCycle = 1000n;
/** Warns while this share of all values, one in so many, is left. */
const lastShare = 10n;

/** What is wrong with a sequence that has been mended as far as it can be; null: nothing. The worst, if several. */
export function faultOf(sequence: JudgedSequence): SequenceFault | null {
  if (sequence.tooLarge) return "too_large";
  if (sequence.cycle && sequence.cycleOff) return "not_split";
  if (sequence.held) return "held";
  const { all, left } = countValues(sequence);
  if (sequence.cycle) return all < fewestInCycle ? "short_cycle" : null;
  if (left === 0n) return "used_up";
  return left * lastShare < all ? "nearly_used_up" : null;
}

/** How many values a node has in all, and how many of them are still to come. */
function countValues({ increment, min, max, upcoming, columnMax }: JudgedSequence): { all: bigint; left: bigint } {
  const step = BigInt(increment);
  const [low, next] = [BigInt(min), BigInt(upcoming)];
  const high = columnMax === null ? BigInt(max) : smaller(BigInt(max), BigInt(columnMax));
  const count = (from: bigint, to: bigint) => from > to ? 0n : (to - from) / (step < 0n ? -step : step) + 1n;
  return { all: count(low, high), left: step > 0n ? count(next, high) : count(low, next) };
}

const smaller = (a: bigint, b: bigint) => a < b ? a : b;

const words: [SequenceFault, string, string][] = [
  ["used_up", "used up", "raise MAXVALUE, or make column and sequence bigint, on both servers"],
  [
    "nearly_used_up",
    "less than a tenth of the values left",
    "raise MAXVALUE, or make column and sequence bigint, on both servers",
  ],
  [
    "not_split",
    "CYCLE over too few values to be split into odd and even: both servers give out the same",
    "widen them with ALTER SEQUENCE ... MINVALUE ... MAXVALUE on both servers, or take NO CYCLE",
  ],
  [
    "too_large",
    "an increment too large to be doubled: both servers give out the same values",
    "give them a smaller increment on both servers",
  ],
  [
    "short_cycle",
    `CYCLE over fewer than ${fewestInCycle} values for each server: they come again soon`,
    "widen them with ALTER SEQUENCE ... MINVALUE ... MAXVALUE on both servers, or take NO CYCLE",
  ],
  [
    "held",
    "they may give out values of the other server's, and cannot be set right while other sessions hold them",
    "end long transactions that have used or altered them (see pg_stat_activity)",
  ],
];

/** Names of each kind that are listed; the others are counted. */
const mostNamed = 5;

/** The alarm for all that is wrong; null if nothing is. */
export function sequenceTrouble(sequences: readonly JudgedSequence[]): { message: string; remedy: string } | null {
  const labels = new Map<SequenceFault, string[]>();
  for (const sequence of sequences) {
    const fault = faultOf(sequence);
    if (fault) labels.set(fault, [...labels.get(fault) ?? [], sequence.label]);
  }
  const found = words.filter(([fault]) => labels.has(fault));
  if (found.length === 0) return null;
  const parts = found.map(([fault, state]) => `${named(labels.get(fault)!)} (${state})`);
  return {
    message: `Cannot rely on these sequences: ${parts.join("; ")}`,
    remedy: [...new Set(found.map(([, , remedy]) => remedy))].join("; "),
  };
}

function named(labels: readonly string[]): string {
  const more = labels.length - mostNamed;
  return labels.slice(0, mostNamed).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
