// All that the bench can measure, by name, and what of it a machine lacks.
import { bucardoMissing, makeBucardo } from "./bucardo.ts";
import { makeHapair } from "./hapair.ts";
import { makeLimit } from "./limit.ts";
import { makeAlone, makeNative } from "./native.ts";
import { makePglogical, pglogicalMissing } from "./pglogical.ts";
import type { MakeSystem } from "./system.ts";

export const systems: Readonly<Record<string, MakeSystem>> = {
  hapair: makeHapair,
  native: makeNative,
  pglogical: makePglogical,
  bucardo: makeBucardo,
  limit: makeLimit,
  alone: makeAlone,
};

const missing: Readonly<Record<string, (version: number) => string | null>> = {
  pglogical: pglogicalMissing,
  bucardo: bucardoMissing,
};

/**
 * How much of a backlog a system is given: Bucardo a tenth, as it had not ended with 50,000 small transactions after nine minutes.
 * Its rates are the better for it.
 */
export const shareOf = (system: string): number => system === "bucardo" ? 0.1 : 1;

/** Why a system cannot be measured with that version here; null if it can. */
export function missingHere(system: string, version: number): string | null {
  return missing[system]?.(version) ?? null;
}
