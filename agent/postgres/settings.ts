// What a server needs so that it can be one of a pair, compared with what it has. Pure but for readSettings.
import type { Sql } from "./connect.ts";
import { supportedMajors } from "./binaries.ts";

export interface ServerSettings {
  readonly serverVersionNum: number;
  readonly superuser: boolean;
  readonly inRecovery: boolean;
  readonly walLevel: string;
  readonly trackCommitTimestamp: string;
  readonly maxReplicationSlots: number;
  readonly maxWalSenders: number;
  readonly serverEncoding: string;
}

export interface Finding {
  readonly name: string;
  readonly have: string;
  readonly need: string;
  /** True if the remedy counts only after a restart of PostgreSQL. */
  readonly needsRestart: boolean;
  readonly remedy: string;
  /** The statement that puts it right at the next restart; null where there is none. */
  readonly alter: string | null;
}

/** One slot and its sender, and one of each to spare for a new copy of this server being made. */
const slotsNeeded = 4;

/** Reads what checkSettings looks at; any user may. */
export async function readSettings(sql: Sql): Promise<ServerSettings> {
  const [row] = await sql<ServerSettings[]>`SELECT
    current_setting('server_version_num')::int AS "serverVersionNum",
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
    pg_is_in_recovery() AS "inRecovery",
    current_setting('wal_level') AS "walLevel",
    current_setting('track_commit_timestamp') AS "trackCommitTimestamp",
    current_setting('max_replication_slots')::int AS "maxReplicationSlots",
    current_setting('max_wal_senders')::int AS "maxWalSenders",
    current_setting('server_encoding') AS "serverEncoding"`;
  return { ...row };
}

/** What does not fit, each with its remedy; empty if all is well. */
export function checkSettings(have: ServerSettings): Finding[] {
  const findings: Finding[] = [];
  const major = Math.trunc(have.serverVersionNum / 10_000);
  if (!supportedMajors.some((each) => each === major)) {
    findings.push({
      name: "server_version",
      have: String(major),
      need: `${supportedMajors[0]} to ${supportedMajors[supportedMajors.length - 1]}`,
      needsRestart: false,
      remedy: "upgrade the server with pg_upgrade first",
      alter: null,
    });
  }
  if (!have.superuser) {
    findings.push({
      name: "superuser",
      have: "off",
      need: "on",
      needsRestart: false,
      remedy: "give the URL of a superuser, e.g. postgres: an event trigger and a publication of all tables take one",
      alter: null,
    });
  }
  if (have.inRecovery) {
    findings.push({
      name: "in_recovery",
      have: "on",
      need: "off",
      needsRestart: false,
      remedy: "name the server that this standby follows, or promote it",
      alter: null,
    });
  }
  const setting = (name: string, value: string, need: string, to: string, fits: boolean) => {
    if (fits) return;
    const alter = `ALTER SYSTEM SET ${name} = ${to};`;
    findings.push({ name, have: value, need, needsRestart: true, remedy: `${alter} then restart PostgreSQL`, alter });
  };
  setting("wal_level", have.walLevel, "logical", "logical", have.walLevel === "logical");
  setting("track_commit_timestamp", have.trackCommitTimestamp, "on", "on", have.trackCommitTimestamp === "on");
  for (
    const [name, value] of [
      ["max_replication_slots", have.maxReplicationSlots],
      ["max_wal_senders", have.maxWalSenders],
    ] as const
  ) {
    setting(name, String(value), `at least ${slotsNeeded}`, "10", value >= slotsNeeded);
  }
  return findings;
}
