// scripts/bench: parts x versions x systems, in interleaved repetitions, on fresh servers each. Prints the tables of
// report.ts and, unless it was only a trial, writes them to bench/RESULTS.md and bench/chart.svg. Fails where a system has
// lost or changed a row.
import { writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Scope } from "../test/helpers/scope.ts";
import { catchUp } from "./catch_up.ts";
import { drawChart } from "./chart.ts";
import { measureLatency } from "./latency.ts";
import { measureOverhead } from "./overhead.ts";
import { formatReport } from "./report.ts";
import { keepResult, type Measurement, type PartName, readResults, type Result } from "./results.ts";
import { versionText } from "./servers.ts";
import { checkSettings, serverSettings, type System } from "./system.ts";
import { missingHere, shareOf, systems } from "./systems.ts";
import { type Distance, wan } from "./wan.ts";
import { schemaOf, type Workload, workloads } from "./workloads.ts";

/** What of a result does not say what was measured. */
type Figures = Omit<Result, "system" | "version" | "repetition">;

interface Part {
  readonly systems: readonly string[];
  readonly distance: Distance | null;
  /** The workloads of this part; empty for one that has a load of its own. */
  readonly work: readonly string[];
  readonly tpcb: boolean;
  measure(system: System, work: readonly Workload[], scale: number): AsyncGenerator<Figures>;
}

async function* catchUps(part: "catch-up" | "wan", system: System, work: readonly Workload[], scale: number) {
  for (const workload of work) yield { part, ...await catchUp(system, workload, scale) };
}

/** Seconds of steady load, at scale 1. */
const steadySeconds = 20;
const steady = (scale: number) => Math.max(3, Math.round(steadySeconds * Math.sqrt(scale)));

const parts: Record<PartName, Part> = {
  "catch-up": {
    systems: ["hapair", "native", "pglogical", "bucardo", "limit"],
    distance: null,
    work: workloads.map((each) => each.name),
    tpcb: false,
    measure: (system, work, scale) => catchUps("catch-up", system, work, scale),
  },
  latency: {
    systems: ["hapair", "native", "pglogical", "bucardo"],
    distance: null,
    work: [],
    tpcb: false,
    async *measure(system, _, scale) {
      yield { part: "latency", ...await measureLatency(system, steady(scale), 1) };
    },
  },
  overhead: {
    systems: ["alone", "native", "hapair", "pglogical", "bucardo"],
    distance: null,
    work: [],
    tpcb: true,
    async *measure(system, _, scale) {
      yield { part: "overhead", ...await measureOverhead(system, steady(scale)) };
    },
  },
  wan: {
    systems: ["hapair", "native", "pglogical", "bucardo"],
    distance: wan,
    work: ["w1", "w4"],
    tpcb: false,
    measure: (system, work, scale) => catchUps("wan", system, work, scale),
  },
};

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    versions: { type: "string" },
    parts: { type: "string", default: Object.keys(parts).join(",") },
    systems: { type: "string", default: Object.keys(systems).join(",") },
    work: { type: "string", default: workloads.map((each) => each.name).join(",") },
    reps: { type: "string" },
    scale: { type: "string" },
    into: { type: "string" },
  },
});
const quickScale = 0.02;
const scale = Number(values.scale ?? (values.quick ? quickScale : 1));
const repetitions = Number(values.reps ?? (values.quick ? 1 : 3));
const versions = (values.versions ?? (values.quick ? "18" : "15,18")).split(",").map(Number);
const chosenSystems = named(values.systems, systems);
const chosenWork = named(values.work, Object.fromEntries(workloads.map((each) => [each.name, each])));
const chosenParts = named(values.parts, parts) as PartName[];
if (process.env.BENCH_DIR) process.env.TMPDIR = process.env.BENCH_DIR;

/** A list of names, each of which is known. */
function named(asked: string, known: Record<string, unknown>): string[] {
  const names = asked.split(",");
  for (const name of names) {
    if (!(name in known)) throw new Error(`Cannot measure ${name}: there is ${Object.keys(known).join(", ")}`);
  }
  return names;
}

/** One part with one system on fresh servers. */
async function measure(name: PartName, system: string, version: number, repetition: number): Promise<Result[]> {
  const part = parts[name];
  const work = workloads.filter((each) =>
    part.work.includes(each.name) && chosenWork.includes(each.name) && !(each.once && repetition > 1)
  );
  if (part.work.length > 0 && work.length === 0) return [];
  const schema = schemaOf(scale, part.tpcb || work.some((each) => each.name === "w4"));
  const scope = new Scope();
  // No server may be left running where somebody loses patience.
  const stop = () => void scope.close().finally(() => process.exit(1));
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);
  const measured: Result[] = [];
  try {
    const steady = part.work.length === 0;
    const made = await systems[system](scope, { version, schema, distance: part.distance, steady });
    await checkSettings(made.source, `source of ${system}`);
    if (made.sink) await checkSettings(made.sink, `sink of ${system}`);
    for await (const figures of part.measure(made, work, steady ? scale : scale * shareOf(system))) {
      const result = { system, version, repetition, ...figures } as Result;
      measured.push(result);
      if (values.into) keepResult(values.into, result);
      const round = (_: string, value: unknown) => typeof value === "number" ? Math.round(value * 100) / 100 : value;
      console.error(JSON.stringify(result, round));
    }
    await made.check();
    return measured;
  } catch (error) {
    await scope.tellAccounts();
    throw error;
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, stop);
    await scope.close();
  }
}

const results = values.into ? readResults(values.into) : [];
const done = Math.max(0, ...results.map((r) => r.repetition));
for (let repetition = done + 1; repetition <= done + repetitions; repetition++) {
  for (const version of versions) {
    for (const part of chosenParts) {
      for (const system of parts[part].systems.filter((each) => chosenSystems.includes(each))) {
        if (missingHere(system, version) !== null) continue;
        results.push(...await measure(part, system, version, repetition));
      }
    }
  }
}
const text = formatReport(results, workloads, {
  date: new Date().toISOString().slice(0, 10),
  cores: cpus().length,
  processor: cpus()[0]?.model ?? "unknown",
  memoryGb: Math.round(totalmem() / 2 ** 30),
  scale,
  settings: serverSettings,
  programs: Object.fromEntries(
    [...new Set(results.map((r) => r.version))].map((version) => [version, versionText(version)]),
  ),
  missing: versions.flatMap((version) =>
    chosenSystems.flatMap((system) => {
      const why = missingHere(system, version);
      return why === null ? [] : [`${system} with PostgreSQL ${version}: ${why}`];
    })
  ),
});
console.log(text);
if (scale === 1) {
  const folder = dirname(fileURLToPath(import.meta.url));
  writeFileSync(join(folder, "RESULTS.md"), text);
  const chart = drawChart(results.filter((r): r is Measurement => r.part === "catch-up"));
  if (chart) writeFileSync(join(folder, "chart.svg"), chart);
}
