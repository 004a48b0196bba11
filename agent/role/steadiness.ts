// Hysteresis: a primary that comes and goes does not get its role back each time. Pure; the times are the record's.

/** A single lost heartbeat is no outage. */
export const outageMisses = 2;

/** Takeovers of longer ago are forgotten. */
const memoryMs = 10 * 60_000;
/** More of them in that time make no difference. */
const most = 5;

function recent(takeovers: readonly number[], now: number): readonly number[] {
  return takeovers.filter((at) => at <= now && now - at < memoryMs).slice(-most);
}

/** The takeovers to remember after one more, `now` (milliseconds since 1970). */
export function withTakeover(takeovers: readonly number[], now: number): readonly number[] {
  return [...recent(takeovers, now), now].slice(-most);
}

/** How often this node has taken over of late. */
export function takeoversOfLate(takeovers: readonly number[], now: number): number {
  return recent(takeovers, now).length;
}

/** For how many ms contact must have held before a handback: twice as long for each further takeover of late. */
export function steadyNeeded(takeovers: readonly number[], now: number, steadyMs: number): number {
  return steadyMs * 2 ** Math.max(0, takeoversOfLate(takeovers, now) - 1);
}

/** For so long a handback waits for a moment with little on its way. */
const patienceMs = 15_000;

/**
 * How much may be on its way to the primary when writes are refused: it is what they are refused for. A pair too busy to
 * get so near is handed back with as much as there may ever be.
 */
export function nearForHandback(nearBytes: number, inStateMs: number): number {
  return inStateMs < patienceMs ? nearBytes / 8 : nearBytes;
}
