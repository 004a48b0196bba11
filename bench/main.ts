// scripts/bench: systems x workloads, in interleaved repetitions, on fresh servers each. Prints the table of report.ts
// and, unless it was only a trial, writes it to bench/RESULTS.md. Fails where a system has lost or changed a row.
import { writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Scope } from "../test/helpers/scope.ts";
import { catchUp, type Measurement } from "./catch_up.ts";
import { makeHapair } from "./hapair.ts";
import { makeNative } from "./native.ts";
import { formatReport } from "./report.ts";
import { checkSettings, type MakeSystem, serverSettings } from "./system.ts";
import { schema, type Workload, workloads } from "./workloads.ts";

const systems: Record<string, MakeSystem> = { hapair: makeHapair, native: makeNative };
const quickScale = 0.02;

function pick<T>(asked: string, known: Record<string, T>): [string, T][] {
  return asked.split(",").map((name) => {
    if (!(name in known)) throw new Error(`Cannot measure ${name}: there is ${Object.keys(known).join(", ")}`);
    return [name, known[name]];
  });
}

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    versions: { type: "string" },
    systems: { type: "string", default: Object.keys(systems).join(",") },
    work: { type: "string", default: workloads.map((each) => each.name).join(",") },
    reps: { type: "string" },
    scale: { type: "string" },
  },
});
const scale = Number(values.scale ?? (values.quick ? quickScale : 1));
const repetitions = Number(values.reps ?? (values.quick ? 1 : 3));
const versions = (values.versions ?? (values.quick ? "18" : "15,18")).split(",").map(Number);
const chosen = pick(values.systems, systems);
const work = pick(values.work, Object.fromEntries(workloads.map((each) => [each.name, each])))
  .map(([_, workload]) => workload);
if (process.env.BENCH_DIR) process.env.TMPDIR = process.env.BENCH_DIR;

/** All workloads, one after another, through one system on fresh servers. */
async function measureAll(
  name: string,
  make: MakeSystem,
  version: number,
  repetition: number,
  own: readonly Workload[],
): Promise<Measurement[]> {
  const scope = new Scope();
  // No server may be left running where somebody loses patience.
  const stop = () => void scope.close().finally(() => process.exit(1));
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);
  const measured: Measurement[] = [];
  try {
    const system = await make(scope, version, schema);
    await checkSettings(system.source, `source of ${name}`);
    await checkSettings(system.sink, `sink of ${name}`);
    for (const workload of own) {
      const result = { system: name, version, repetition, ...await catchUp(system, workload, scale) };
      measured.push(result);
      console.error(
        `PostgreSQL ${version}, repetition ${repetition}, ${workload.name}, ${name}: ${result.seconds.toFixed(2)} s ` +
          `(first change ${result.firstSeconds.toFixed(2)} s), equal; ${JSON.stringify(rounded(result))}`,
      );
    }
    return measured;
  } catch (error) {
    await scope.tellAccounts();
    throw error;
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"]) process.off(signal, stop);
    await scope.close();
  }
}

function rounded({ cpu, peakMb }: Measurement): unknown {
  const round = (_: string, value: unknown) => typeof value === "number" ? Math.round(value * 10) / 10 : value;
  return JSON.parse(JSON.stringify({ cpu, peakMb }, round));
}

const measurements: Measurement[] = [];
for (let repetition = 1; repetition <= repetitions; repetition++) {
  const own = work.filter((each) => !each.once || repetition === 1);
  for (const version of own.length > 0 ? versions : []) {
    for (const [name, make] of chosen) {
      measurements.push(...await measureAll(name, make, version, repetition, own));
    }
  }
}
const text = formatReport(measurements, workloads, {
  date: new Date().toISOString().slice(0, 10),
  cores: cpus().length,
  processor: cpus()[0]?.model ?? "unknown",
  memoryGb: Math.round(totalmem() / 2 ** 30),
  scale,
  settings: serverSettings,
});
console.log(text);
if (scale === 1) writeFileSync(join(dirname(fileURLToPath(import.meta.url)), "RESULTS.md"), text);
