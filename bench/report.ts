// Turns results into the tables of bench/RESULTS.md. Pure.
import { clients } from "./overhead.ts";
import {
  type LatencyResult,
  type Measurement,
  median,
  type OverheadResult,
  type PartName,
  ratios,
  type Result,
  spread,
} from "./results.ts";
import type { Workload } from "./workloads.ts";

export interface Circumstances {
  readonly date: string;
  readonly cores: number;
  readonly processor: string;
  readonly memoryGb: number;
  readonly scale: number;
  readonly settings: Readonly<Record<string, string>>;
  /** What `postgres --version` says, by major version. */
  readonly programs: Readonly<Record<number, string>>;
  /** What could not be measured here, and why. */
  readonly missing: readonly string[];
}

const thousands = (value: number) => Math.round(value).toLocaleString("en-US");
export const rate = (m: Measurement): number => m.changes / m.seconds;
/**
 * Without what it takes until the first change is there: a process starts, connects, finds its place. Not of a system that
 * brings all at once: then nothing is left to be divided by.
 */
const runningRate = (m: Measurement): number =>
  m.seconds - m.firstSeconds < m.seconds / 20 ? NaN : m.changes / (m.seconds - m.firstSeconds);

export function formatReport(
  results: readonly Result[],
  workloads: readonly Workload[],
  circumstances: Circumstances,
): string {
  const { date, cores, processor, memoryGb, scale, settings, programs, missing } = circumstances;
  const versions = [...new Set(results.map((r) => r.version))].sort((a, b) => a - b);
  return [
    "<!-- deno-fmt-ignore-file -->",
    "",
    "# Results",
    "",
    "Written by `scripts/bench`. Catch-up from a backlog: the work is done while nothing is applied, then the time is",
    "taken from starting the system (hapair: the agent's process; native, pglogical: the subscription; Bucardo: a kick) until",
    "the last change can be read on the other server. Bucardo is given a tenth of each backlog. `limit` is a reader that takes",
    "the same backlog from a slot and keeps nothing. Repetitions are interleaved; each has fresh servers and ends with a",
    "comparison of both sides. Ratios are of systems in one repetition; figures are medians (least-most). Compare only figures",
    "of one run.",
    "",
    `${date}, ${cores} cores (${processor}), ${memoryGb} GB` +
    (scale === 1 ? "." : `; **scale ${scale}: a trial only.**`),
    `Every server: ${Object.entries(settings).map(([name, value]) => `${name} ${value}`).join(", ")}.`,
    ...missing.map((what) => `Not measured: ${what}.`),
    "",
    ...versions.flatMap((version) => {
      const of = <T extends Result>(part: PartName) =>
        results.filter((r) => r.version === version && r.part === part) as T[];
      return [
        `## PostgreSQL ${version}`,
        "",
        `${programs[version]}.`,
        "",
        ...section("Catch-up", ratioTable(of("catch-up"), workloads)),
        ...section("Seconds", secondsTable(of("catch-up"), workloads)),
        ...section("CPU and memory", useTable(of("catch-up"), workloads)),
        ...section("40 ms round trip, 100 Mbit/s", secondsTable(of("wan"), workloads)),
        ...section("Latency from commit to visible, 200 transactions a second", latencyTable(of("latency"))),
        ...section(`Transactions a second at the primary (TPC-B, ${clients} clients)`, overheadTable(of("overhead"))),
      ];
    }),
  ].join("\n");
}

const section = (title: string, table: string[]) => table.length > 2 ? [`### ${title}`, "", ...table, ""] : [];

const systemsOf = (results: readonly Result[]): string[] => [...new Set(results.map((r) => r.system))];

/** Rows of workload x system, with the measurements of each. */
function* groups(measurements: readonly Measurement[], workloads: readonly Workload[]) {
  for (const workload of workloads) {
    const all = measurements.filter((m) => m.workload === workload.name);
    for (const system of systemsOf(measurements)) {
      const runs = all.filter((m) => m.system === system);
      if (runs.length > 0) yield { workload, system, runs, all };
    }
  }
}

function ratioTable(measurements: readonly Measurement[], workloads: readonly Workload[]): string[] {
  const rows = [...groups(measurements, workloads)].map(({ workload, system, runs, all }) =>
    `| ${workload.name}: ${workload.what} | ${system} | ${thousands(median(runs.map(rate)))} | ${
      spread(ratios(all, [system, "native"], rate), 2)
    } | ${spread(ratios(all, [system, "native"], runningRate), 2)} | ${
      spread(ratios(all, [system, "bucardo"], rate), 1)
    } | ${spread(ratios(all, [system, "limit"], rate), 2)} |`
  );
  return [
    "| work | system | changes/s | rate / native's | the same, from the first change on | rate / Bucardo's | rate / limit's |",
    "|---|---|---|---|---|---|---|",
    ...rows,
  ];
}

function secondsTable(measurements: readonly Measurement[], workloads: readonly Workload[]): string[] {
  const rows = [...groups(measurements, workloads)].map(({ workload, system, runs, all }) =>
    `| ${workload.name} | ${system} | ${runs.length} | ${spread(runs.map((m) => m.seconds), 2)} | ${
      spread(runs.map((m) => m.firstSeconds), 2)
    } | ${spread(ratios(all, [system, "native"], rate), 2)} |`
  );
  return [
    "| work | system | runs | seconds | of these until the first change | rate / native's |",
    "|---|---|---|---|---|---|",
    ...rows,
  ];
}

function useTable(measurements: readonly Measurement[], workloads: readonly Workload[]): string[] {
  const rows = [...groups(measurements, workloads)].map(({ workload, system, runs }) => {
    const each = (of: (m: Measurement) => Record<string, number>, digits: number, most: boolean) =>
      Object.keys(of(runs[0])).map((name) => {
        const values = runs.map((m) => of(m)[name] ?? 0);
        return `${name} ${(most ? Math.max(...values) : median(values)).toFixed(digits)}`;
      }).join(", ") || "-";
    const cpu = (of: (m: Measurement) => number) => median(runs.map(of)).toFixed(1);
    return `| ${workload.name} | ${system} | ${cpu((m) => m.cpu.source)} | ${cpu((m) => m.cpu.sink)} | ${
      each((m) => m.cpu.programs, 1, false)
    } | ${cpu((m) => m.cpu.others)} | ${each((m) => m.peakMb, 0, true)} |`;
  });
  return [
    "| work | system | CPU s: source's server | sink's server | programs | all else on the machine | peak memory, MB |",
    "|---|---|---|---|---|---|---|",
    ...rows,
  ];
}

function latencyTable(results: readonly LatencyResult[]): string[] {
  const rows = systemsOf(results).map((system) => {
    const runs = results.filter((r) => r.system === system);
    const of = (value: (r: LatencyResult) => number) => spread(runs.map(value), 1);
    const times = (value: (r: LatencyResult) => number) => spread(ratios(results, [system, "native"], value), 2);
    return `| ${system} | ${runs.length} | ${of((r) => r.p50)} | ${of((r) => r.p99)} | ${of((r) => r.most)} | ${
      times((r) => r.p50)
    } | ${times((r) => r.p99)} | ${of((r) => r.lookMs)} |`;
  });
  return [
    "| system | runs | p50, ms | p99 | most | p50 / native's | p99 / native's | one look takes |",
    "|---|---|---|---|---|---|---|---|",
    ...rows,
  ];
}

function overheadTable(results: readonly OverheadResult[]): string[] {
  const rows = systemsOf(results).map((system) => {
    const runs = results.filter((r) => r.system === system);
    const to = (other: string) => spread(ratios(results, [system, other], (r) => r.perSecond), 3);
    return `| ${system} | ${runs.length} | ${spread(runs.map((r) => r.perSecond), 0)} | ${to("alone")} | ${
      to("native")
    } | ${spread(runs.map((r) => r.behindSeconds), 2)} |`;
  });
  return [
    "| system | runs | transactions/s | / without anybody who follows | / native's | seconds behind at the end |",
    "|---|---|---|---|---|---|",
    ...rows,
  ];
}
