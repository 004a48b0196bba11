// The table of scripts/bench roles. Pure.
import type { Leg } from "./guard_cost.ts";
import { median } from "./results.ts";
import { faults } from "./role_faults.ts";
import { handovers, type Windows } from "./role_window.ts";

export function heading(version: number): string[] {
  return [
    `PostgreSQL ${version}, times in ms`,
    "",
    "| what | runs | median | least | most | |",
    "|---|---|---|---|---|---|",
  ];
}

function row(what: string, values: readonly number[], digits: number, remark = ""): string {
  const figures = [median(values), Math.min(...values), Math.max(...values)].map((each) => each.toFixed(digits));
  return `| ${what} | ${values.length} | ${figures.join(" | ")} | ${remark} |`;
}

export function faultRows(measured: ReadonlyMap<string, number[]>): string[] {
  return [...measured].map(([name, times]) =>
    row(`first write on the secondary after: ${faults[name].what}`, times, 0)
  );
}

export function windowRows(
  { windows, acknowledged, missing, doubled, errors, tps }: Windows,
  clients: number,
): string[] {
  const seen =
    `${clients} clients, ${tps.toFixed(0)} TPS over all; ${acknowledged} acknowledged, ${missing} missing, ` +
    `${doubled} doubled, ${errors.length} errors`;
  return [...windows].map(([kind, times]) => row(`nobody takes writes: ${handovers[kind]}`, times, 0, seen));
}

/** One figure of both kinds of leg: beside each kind's own, by how much more or less the guard makes it, leg by leg. */
function compared(what: string, legs: readonly Leg[], of: (leg: Leg) => number): string[] {
  const [guarded, plain] = [true, false].map((kind) => legs.filter((leg) => leg.guarded === kind).map(of));
  const change = (a: number, b: number) => (a / b - 1) * 100;
  return [
    row(`${what}, with the guard`, guarded, 0),
    row(`${what}, without`, plain, 0, `the medians differ by ${change(median(guarded), median(plain)).toFixed(1)} %`),
    row(`${what}, change by the guard in %, by pairs of legs`, guarded.map((each, n) => change(each, plain[n])), 1),
  ];
}

export function guardRows(legs: readonly Leg[], clients: number): string[] {
  return [
    ...compared(`TPC-B, ${clients} clients, TPS`, legs, (leg) => leg.tps),
    ...compared("server's CPU a transaction, microseconds", legs, (leg) => leg.cpuMicroseconds),
  ];
}
