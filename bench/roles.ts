// scripts/bench roles: how long writes are refused or lost when something fails or the role is handed over, and what the
// guard costs. On the compiled agent and a real pair; prints a table and writes nothing else.
import process from "node:process";
import { parseArgs } from "node:util";
import { Scope } from "../test/helpers/scope.ts";
import { measureGuard } from "./guard_cost.ts";
import { faults, measureFaults } from "./role_faults.ts";
import { faultRows, guardRows, heading, windowRows } from "./role_report.ts";
import { type Handover, handovers, measureWindows } from "./role_window.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    only: { type: "string", default: "faults,window,guard" },
    faults: { type: "string", default: Object.keys(faults).join(",") },
    handovers: { type: "string", default: Object.keys(handovers).join(",") },
    runs: { type: "string", default: "20" },
    clients: { type: "string", default: "8" },
    legs: { type: "string", default: "30" },
    "leg-ms": { type: "string", default: "2000" },
    version: { type: "string", default: "18" },
  },
});

function listOf<T extends string>(asked: string, known: readonly T[]): T[] {
  return asked.split(",").map((name) => {
    const found = known.find((each) => each === name);
    if (found === undefined) throw new Error(`Cannot measure ${name}: there is ${known.join(", ")}`);
    return found;
  });
}

const version = Number(values.version);
const runs = Number(values.runs);
const clients = Number(values.clients);
const parts: Record<string, (scope: Scope) => Promise<string[]>> = {
  faults: async (scope) =>
    faultRows(await measureFaults(scope, { version, names: listOf(values.faults, Object.keys(faults)), runs })),
  window: async (scope) => {
    const only = listOf(values.handovers, Object.keys(handovers) as Handover[]);
    return windowRows(await measureWindows(scope, { version, runs, clients, only }), clients);
  },
  guard: async (scope) =>
    guardRows(
      await measureGuard(scope, { version, legs: Number(values.legs), legMs: Number(values["leg-ms"]), clients }),
      clients,
    ),
};

const rows: string[] = [];
for (const name of listOf(values.only, Object.keys(parts))) {
  const scope = new Scope();
  try {
    rows.push(...await parts[name](scope));
  } catch (error) {
    await scope.tellAccounts();
    throw error;
  } finally {
    await scope.close();
  }
}
console.log([...heading(version), ...rows].join("\n"));
