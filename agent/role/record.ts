// run/state.json: the durable record. Written whole, so that a crash leaves the old one or the new one. Never invents a record where there is one that cannot be read.
import { readFileSync } from "node:fs";
import { z } from "zod";
import { writeDurably } from "../durable_file.ts";
import { AgentError, reason } from "../errors.ts";
import { noOrders, orders, roles, states } from "../report.ts";
import type { Record } from "./states.ts";

const stored = z.strictObject({
  version: z.literal(1),
  role: z.enum(roles),
  state: z.enum(states),
  epoch: z.number().int().min(0),
  since: z.number(),
  why: z.string(),
  inSync: z.boolean(),
  // An agent of before there were orders has left none.
  orders: orders.default(noOrders),
  takeovers: z.array(z.number()).default([]),
});

/** The record, or null if there is none yet. */
export function readRecord(path: string): Record | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw unreadable(path, error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw unreadable(path, error);
  }
  const checked = stored.safeParse(value);
  if (!checked.success) throw unreadable(path, z.prettifyError(checked.error).split("\n")[0]);
  const { version: _, ...record } = checked.data;
  return record;
}

/** Durable when it returns. */
export function writeRecord(path: string, record: Record): void {
  writeDurably(path, JSON.stringify({ version: 1, ...record }, null, 2) + "\n");
}

function unreadable(path: string, error: unknown): AgentError {
  return new AgentError(
    `Cannot read ${path}: ${error instanceof Error ? reason(error) : String(error)}`,
    "put the file back from a backup; if there is none, set this node up again",
  );
}
