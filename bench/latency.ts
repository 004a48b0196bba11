// Steady state: one client commits 200 transactions a second; how long after its commit is each visible at the sink?
// Commit times are the source's own (taken just before the commit waits for the disk); both servers share one clock.
import { setTimeout as pause } from "node:timers/promises";
import type { System } from "./system.ts";

export interface Latency {
  readonly transactions: number;
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
  /** How long one look at the sink takes on average: no figure is finer. */
  readonly lookMs: number;
}

const perSecond = 200;
/** The first second is not counted. */
const warmUp = perSecond;
const deadlineMs = 60_000;

const nowMs = () => performance.timeOrigin + performance.now();

/** Numbers from `first` on, in the table `tiny`, which must have none as high. */
export async function measureLatency(system: System, seconds: number, first: number): Promise<Latency> {
  const { source, sink } = system;
  if (!sink) throw new Error("Cannot measure latency: the changes arrive nowhere");
  const transactions = perSecond * seconds;
  const last = first + transactions - 1;
  await Promise.all([source`CHECKPOINT`, sink`CHECKPOINT`]);
  const start = performance.now();
  const writing = (async () => {
    for (let n = 0; n < transactions; n++) {
      const early = start + n * 1000 / perSecond - performance.now();
      if (early > 0) await pause(early);
      await source`INSERT INTO tiny VALUES (${first + n}, 'steady', clock_timestamp())`;
    }
  })();
  const seen: number[] = [];
  let looks = 0;
  const limit = start + seconds * 1000 + deadlineMs;
  for (let reached = first - 1; reached < last;) {
    if (performance.now() > limit) throw new Error(`Cannot measure latency: ${last - reached} rows have not arrived`);
    const [{ id }] = await sink`SELECT coalesce(max(id), 0)::int AS id FROM tiny`;
    looks++;
    const now = nowMs();
    for (; reached < id; reached++) if (reached + 1 >= first) seen[reached + 1 - first] = now;
    await pause(0.5);
  }
  await writing;
  const lookMs = (performance.now() - start) / looks;
  const rows = await source`
    SELECT id::int, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 * 1000 AS committed
    FROM tiny WHERE id >= ${first + warmUp} AND id <= ${last}`;
  const times = rows.map(({ id, committed }) => seen[id - first] - committed).sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
  return { transactions: times.length, p50: at(0.5), p99: at(0.99), most: times[times.length - 1], lookMs };
}
