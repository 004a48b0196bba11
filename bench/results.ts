// What the bench has measured, one result a line in a file, so that a long run can be made in pieces.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import type { CatchUp } from "./catch_up.ts";
import type { Latency } from "./latency.ts";
import type { Overhead } from "./overhead.ts";

interface Head {
  readonly system: string;
  readonly version: number;
  readonly repetition: number;
}

/** A backlog taken in on one machine, or over a distance. */
export type Measurement = Head & CatchUp & { readonly part: "catch-up" | "wan" };
export type LatencyResult = Head & Latency & { readonly part: "latency" };
export type OverheadResult = Head & Overhead & { readonly part: "overhead" };
export type Result = Measurement | LatencyResult | OverheadResult;
export type PartName = Result["part"];

export function readResults(file: string): Result[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

export function keepResult(file: string, result: Result): void {
  appendFileSync(file, JSON.stringify(result) + "\n");
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** `median (least-most)`, or the one value; empty for none. */
export function spread(values: readonly number[], digits: number): string {
  if (values.length === 0) return "";
  const [middle, least, most] = [median(values), Math.min(...values), Math.max(...values)].map((v) =>
    v.toFixed(digits)
  );
  return values.length > 1 ? `${middle} (${least}-${most})` : middle;
}

/**
 * `of` a system's result divided by that of another system in the same repetition, for every repetition with both; not where
 * that is no number.
 */
export function ratios<T extends Result>(
  results: readonly T[],
  [system, other]: readonly [string, string],
  of: (result: T) => number,
): number[] {
  return results.filter((r) => r.system === system).flatMap((result) => {
    const found = results.find((r) => r.system === other && r.repetition === result.repetition);
    const ratio = found ? of(result) / of(found) : NaN;
    return Number.isFinite(ratio) ? [ratio] : [];
  });
}
