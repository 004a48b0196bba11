// Turns measurements into the table of bench/RESULTS.md. Pure.
import type { Measurement } from "./catch_up.ts";
import type { Workload } from "./workloads.ts";

/** What all others are compared with. */
const yardstick = "native";

export interface Circumstances {
  readonly date: string;
  readonly cores: number;
  readonly processor: string;
  readonly memoryGb: number;
  readonly scale: number;
  readonly settings: Readonly<Record<string, string>>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** `median (least-most)`, or the one value. */
function spread(values: readonly number[], digits: number): string {
  const [middle, least, most] = [median(values), Math.min(...values), Math.max(...values)].map((v) =>
    v.toFixed(digits)
  );
  return values.length > 1 ? `${middle} (${least}-${most})` : middle;
}

const thousands = (value: number) => Math.round(value).toLocaleString("en-US");

export function formatReport(
  measurements: readonly Measurement[],
  workloads: readonly Workload[],
  circumstances: Circumstances,
): string {
  const { date, cores, processor, memoryGb, scale, settings } = circumstances;
  const versions = [...new Set(measurements.map((m) => m.version))];
  const sections = versions.flatMap((version) => {
    const own = measurements.filter((m) => m.version === version);
    return [`## PostgreSQL ${version}`, "", ...rateTable(own, workloads), "", ...useTable(own, workloads), ""];
  });
  return [
    "# Results",
    "",
    "Written by `scripts/bench`. Catch-up from a backlog: the work is done while nothing is applied, then the time is",
    "taken from starting the system (hapair: the agent's process) until the last change can be read on the other",
    "server. Repetitions are interleaved; each has fresh servers and ends with a comparison of both sides. Compare only",
    "figures of one run.",
    "",
    `${date}, ${cores} cores (${processor}), ${memoryGb} GB` +
    (scale === 1 ? "." : `; **scale ${scale}: a trial only.**`),
    `Every server: ${Object.entries(settings).map(([name, value]) => `${name} ${value}`).join(", ")}.`,
    "",
    ...sections,
  ].join("\n");
}

function systemsOf(measurements: readonly Measurement[]): string[] {
  return [...new Set(measurements.map((m) => m.system))];
}

/** Rows of workload x system, with the measurements of each. */
function* groups(measurements: readonly Measurement[], workloads: readonly Workload[]) {
  for (const workload of workloads) {
    for (const system of systemsOf(measurements)) {
      const runs = measurements.filter((m) => m.workload === workload.name && m.system === system);
      if (runs.length > 0) yield { workload, system, runs };
    }
  }
}

function rateTable(measurements: readonly Measurement[], workloads: readonly Workload[]): string[] {
  const rows = [...groups(measurements, workloads)].map(({ workload, system, runs }) => {
    const seconds = median(runs.map((m) => m.seconds));
    const other = measurements.filter((m) => m.workload === workload.name && m.system === yardstick);
    const ratio = other.length > 0 ? (median(other.map((m) => m.seconds)) / seconds).toFixed(2) : "";
    return `| ${workload.name}: ${workload.what} | ${system} | ${runs.length} | ${
      spread(runs.map((m) => m.seconds), 2)
    } | ${spread(runs.map((m) => m.firstSeconds), 2)} | ${thousands(runs[0].changes / seconds)} | ${ratio} |`;
  });
  return [
    `| work | system | runs | seconds: median (least-most) | of these until the first change | changes/s | rate / ${yardstick}'s |`,
    "|---|---|---|---|---|---|---|",
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
