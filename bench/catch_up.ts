// One measurement: a backlog is made while the system rests, then the time is taken from its start until the last
// change can be read at the sink.
import { waitFor } from "../test/helpers/wait.ts";
import type { Marker, System } from "./system.ts";
import { forgetPeak, machineCpu, peakMemoryMb, processCpu, serverCpu } from "./usage.ts";
import type { Workload } from "./workloads.ts";

export interface CatchUp {
  readonly workload: string;
  readonly changes: number;
  readonly transactions: number;
  /** From the start of applying to the first change and to the last one that can be read at the sink. */
  readonly firstSeconds: number;
  readonly seconds: number;
  /** CPU seconds: the system's own programs, the source's server, the sink's server, all else on the machine. */
  readonly cpu: { programs: Record<string, number>; source: number; sink: number; others: number };
  readonly peakMb: Record<string, number>;
}

const pollMs = 5;
const deadlineMs = 600_000;
let markers = 0;

export async function catchUp(system: System, workload: Workload, scale: number): Promise<CatchUp> {
  const { source, sink } = system;
  const each = workload.changes / workload.transactions;
  // The small transactions become fewer, the large ones smaller.
  const transactions = each < 100 ? Math.round(workload.transactions * scale) : workload.transactions;
  const changes = each < 100 ? transactions * each : Math.round(workload.changes * scale);
  for (const pid of Object.values(system.programs())) forgetPeak(pid);
  await system.pause();
  const mark = async (): Promise<Marker> => {
    const id = ++markers;
    const [{ after }] = await source`SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text AS after`;
    await source`INSERT INTO marker VALUES (${id}, ${workload.name})`;
    return { id, after: BigInt(after) };
  };
  const first = await mark();
  await workload.make(source, changes, transactions);
  const last = await mark();
  await Promise.all([source`CHECKPOINT`, sink ? sink`CHECKPOINT` : null]);

  const resting = new Map(Object.values(system.programs()).map((pid) => [pid, processCpu(pid)]));
  const servers = system.pgdata.map(serverCpu);
  const machine = machineCpu();
  const start = performance.now();
  const arrival = async (marker: Marker) => {
    const limits = { what: `the changes of ${workload.name}`, deadlineMs, everyMs: pollMs };
    await waitFor(() => system.arrived(marker), limits);
    return (performance.now() - start) / 1000;
  };
  await system.resume();
  const firstSeconds = await arrival(first);
  const seconds = await arrival(last);
  const spent = system.pgdata.map((pgdata, i) => serverCpu(pgdata) - servers[i]);
  const programs: Record<string, number> = {};
  const peakMb: Record<string, number> = {};
  for (const [name, pid] of Object.entries(system.programs())) {
    programs[name] = processCpu(pid) - (resting.get(pid) ?? 0);
    peakMb[name] = peakMemoryMb(pid);
  }
  const own = [...spent, ...Object.values(programs)].reduce((sum, each) => sum + each, 0);
  const cpu = { programs, source: spent[0], sink: spent[1] ?? 0, others: machineCpu() - machine - own };
  return { workload: workload.name, changes, transactions, firstSeconds, seconds, cpu, peakMb };
}
