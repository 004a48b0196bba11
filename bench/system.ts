// What a bench asks of a system that carries changes from one server to another. A system adds no table and no key to
// the workloads' own; whatever it needs besides is its own affair and its own cost.
import { assertEqual } from "../test/helpers/equality.ts";
import type { Sql, Target } from "../agent/postgres/connect.ts";
import type { Scope } from "../test/helpers/scope.ts";
import type { Distance } from "./wan.ts";

/** A row of the table `marker`, alone in its transaction, which ends behind `after` in the source's WAL. */
export interface Marker {
  readonly id: number;
  readonly after: bigint;
}

/** A running system on servers of its own, which hold the workloads' tables. Ends with its scope. */
export interface System {
  /** A pool of a superuser where changes are made, and how to make another one. */
  readonly source: Sql;
  readonly sourceTarget: Target;
  /** Where they arrive; null if they arrive nowhere. */
  readonly sink: Sql | null;
  /** Data folders of the servers, the source's first, whose CPU time is counted. */
  readonly pgdata: readonly string[];
  /** Stops applying; resolves when nothing is applied any more. The sink's server goes on running. */
  pause(): Promise<void>;
  /** Starts applying; may resolve at once. */
  resume(): Promise<void>;
  /** Has this row arrived? */
  arrived(marker: Marker): Promise<boolean>;
  /** Throws where something is lost or changed. */
  check(): Promise<void>;
  /** The running processes of the system outside of PostgreSQL, by name. */
  programs(): Record<string, number>;
}

export interface SystemOptions {
  readonly version: number;
  readonly schema: string;
  /** How far apart the servers are; null: on one machine. */
  readonly distance: Distance | null;
  /** Changes are carried as they come; else the system is paused and resumed. */
  readonly steady: boolean;
}

export type MakeSystem = (scope: Scope, options: SystemOptions) => Promise<System>;

/**
 * How a system that ends in a server answers whether changes have arrived, and arrived right. `own` are schemas of the system itself, which differ.
 */
export function endingIn(source: Sql, sink: Sql, own?: string[]): Pick<System, "sink" | "arrived" | "check"> {
  return {
    sink,
    arrived: async ({ id }) => (await sink`SELECT FROM marker WHERE id = ${id}`).length > 0,
    check: () => assertEqual(source, sink, own),
  };
}

/**
 * The settings of every server of every system: as in production where safety is concerned (fsync, full_page_writes
 * and synchronous_commit are on), large enough that no checkpoint falls into one run and not into another.
 */
export const serverSettings: Readonly<Record<string, string>> = {
  fsync: "on",
  full_page_writes: "on",
  synchronous_commit: "on",
  shared_buffers: "512MB",
  max_wal_size: "8GB",
  checkpoint_timeout: "30min",
  wal_level: "logical",
  track_commit_timestamp: "on",
  // Else PostgreSQL's own subscriber waits for up to 5 s before it starts again.
  wal_retrieve_retry_interval: "500ms",
};

/** A comparison of unequal servers would say nothing: throws where a setting is not as wanted. */
export async function checkSettings(sql: Sql, name: string): Promise<void> {
  for (const [setting, wanted] of Object.entries(serverSettings)) {
    const [{ value }] = await sql`SELECT current_setting(${setting}) AS value`;
    if (value !== wanted) throw new Error(`Cannot measure: ${setting} is ${value} on the ${name}, not ${wanted}`);
  }
}

/** Gives a running server of a test those of these settings that need no restart. */
export async function applyServerSettings(sql: Sql): Promise<void> {
  const names = await sql<{ name: string }[]>`SELECT name FROM pg_settings
    WHERE name = ANY (${Object.keys(serverSettings)}) AND context <> 'postmaster'`;
  for (const { name } of names) await sql.unsafe(`ALTER SYSTEM SET ${name} = '${serverSettings[name]}'`);
  await sql`SELECT pg_reload_conf()`;
}
