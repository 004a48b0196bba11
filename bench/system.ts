// What a bench asks of a system that carries changes from one server to another. A system adds no table and no key to
// the workloads' own; whatever it needs besides is its own affair and its own cost.
import type { Sql } from "../agent/postgres/connect.ts";
import type { Scope } from "../test/helpers/scope.ts";

/** A running system between two servers of its own, which hold the workloads' tables. Ends with its scope. */
export interface System {
  /** Pools of a superuser: where changes are made, and where they arrive. */
  readonly source: Sql;
  readonly sink: Sql;
  /** Data folders of the two servers, whose CPU time is counted. */
  readonly pgdata: readonly [string, string];
  /** Stops applying; resolves when nothing is applied any more. The sink's server goes on running. */
  pause(): Promise<void>;
  /** Starts applying; may resolve at once. */
  resume(): Promise<void>;
  /** The running processes of the system outside of PostgreSQL, by name. */
  programs(): Record<string, number>;
}

export type MakeSystem = (scope: Scope, version: number, schema: string) => Promise<System>;

/**
 * The settings of every server of every system: as in production where safety is concerned (fsync, full_page_writes
 * and synchronous_commit are on), large enough that no checkpoint falls into one run and not into another.
 */
export const serverSettings: Readonly<Record<string, string>> = {
  fsync: "on",
  full_page_writes: "on",
  synchronous_commit: "on",
  shared_buffers: "256MB",
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
