// What following costs who is followed: TPC-B transactions a second at the source, with a system that follows and without.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { waitFor } from "../test/helpers/wait.ts";
import type { System } from "./system.ts";

export interface Overhead {
  readonly transactions: number;
  readonly perSecond: number;
  /** How long the sink took to have all of it, from the last commit on. */
  readonly behindSeconds: number;
}

export const clients = 4;
const program = join(dirname(fileURLToPath(import.meta.url)), "load.ts");
const deadlineMs = 300_000;
/** Higher than those of other measurements on the same servers. */
const markerId = 1_000_000;

export async function measureOverhead(system: System, seconds: number): Promise<Overhead> {
  const { source, sink, sourceTarget } = system;
  await Promise.all([source`CHECKPOINT`, sink ? sink`CHECKPOINT` : null]);
  const { host, port, user, database } = sourceTarget;
  const args = [program, JSON.stringify({ host, port, user, database }), String(clients), String(seconds)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (chunk) => text += chunk);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`Cannot measure the overhead: the load ended with ${code}`);
  const { transactions, perSecond } = JSON.parse(text) as Omit<Overhead, "behindSeconds">;
  const end = performance.now();
  if (sink) {
    const [{ after }] = await source`SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text AS after`;
    await source`INSERT INTO marker VALUES (${markerId}, 'overhead')`;
    const marker = { id: markerId, after: BigInt(after) };
    await waitFor(() => system.arrived(marker), { what: "the load to arrive", deadlineMs, everyMs: 20 });
  }
  const behindSeconds = (performance.now() - end) / 1000;
  return { transactions, perSecond, behindSeconds };
}
