// Brings a verified copy of the primary to the pack's exact LSN, closed to clients.
// Never leaves a copy under its final name that could be started without that target: it would run past it, or short.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AgentError } from "../errors.ts";
import { isUnreachable, openPool, type Sql } from "../postgres/connect.ts";
import { readStatus } from "../postgres/postmaster.ts";
import { replaceFile } from "../postgres/server_config.ts";
import { type Cluster, configure, localTarget, startCluster } from "../postgres/server.ts";
import type { PackManifest } from "./manifest.ts";

/** A cluster whose only door is its private socket. */
export function closedTo(cluster: Cluster, settings: Record<string, string> = {}): Cluster {
  return { ...cluster, listen: "", settings: { ...cluster.settings, ...settings } };
}

/** Writes configuration and recovery target into the folder of a copy, before that gets its name. */
export async function prepareSeed(
  folder: string,
  cluster: Cluster,
  manifest: PackManifest,
  fallback: Readonly<Record<string, string>>,
): Promise<void> {
  const own = (name: string, text: string) => replaceFile(join(folder, name), text, folder);
  // A server that the system runs keeps its configuration elsewhere: the copy gets what recovery depends on.
  if (!existsSync(join(folder, "postgresql.conf"))) {
    const lines = Object.entries(fallback).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`);
    own("postgresql.conf", ["# Made by hapair from the primary's settings.", ...lines, ""].join("\n"));
  }
  const noRules = !existsSync(join(folder, "pg_hba.conf"));
  if (noRules) own("pg_hba.conf", "");
  rmSync(join(folder, "standby.signal"), { force: true });
  const target = closedTo({ ...cluster, pgdata: folder }, {
    recovery_target_lsn: manifest.postgres.end_lsn,
    recovery_target_inclusive: "off",
    recovery_target_action: "promote",
    recovery_target_timeline: "current",
    restore_command: "exit 1", // all WAL that is needed lies in the copy
    hot_standby: "off", // nobody may look in before the target is reached
    max_logical_replication_workers: "0", // the primary's subscriptions must not start here
  });
  dropOverrides(folder);
  await configure(target, { openToHosts: noRules });
  own("recovery.signal", "");
}

// What the primary's administrator set with ALTER SYSTEM would win over the settings that this node needs.
const ownNames =
  /^\s*(listen_addresses|port|unix_socket_\w+|wal_level|track_commit_timestamp|max_replication_slots|max_wal_senders|password_encryption|logging_collector|log_destination|log_line_prefix|lc_messages|recovery_\w+|restore_command|hot_standby|primary_\w+)\b/i;

function dropOverrides(folder: string): void {
  const path = join(folder, "postgresql.auto.conf");
  if (!existsSync(path)) return;
  const kept = readFileSync(path, "utf8").split("\n").filter((line) => !ownNames.test(line));
  replaceFile(path, kept.join("\n"), folder);
}

/** Starts the copy, which recovers to its target and is promoted there. It stays closed to clients, and running. */
export async function recoverSeed(cluster: Cluster, { timeoutMs = 3_600_000 } = {}): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  await startCluster(closedTo(cluster), { timeoutMs });
  // Without hot standby the server counts as started when recovery has begun.
  const sql = openPool(localTarget(cluster, "postgres"), { purpose: "setup", max: 1 });
  try {
    while (!await isPromoted(sql)) {
      if (!readStatus(cluster.pgdata).running || Date.now() > deadline) {
        throw new AgentError(
          `Cannot recover the copy in ${cluster.pgdata}: the server ended before it reached the pack's position`,
          `read ${cluster.logFile}`,
        );
      }
      await delay(50);
    }
  } finally {
    await sql.end({ timeout: 1 });
  }
}

async function isPromoted(sql: Sql): Promise<boolean> {
  try {
    const [{ recovering }] = await sql<{ recovering: boolean }[]>`select pg_is_in_recovery() as recovering`;
    return !recovering;
  } catch (error) {
    if (isUnreachable(error)) return false;
    throw error;
  }
}
