// The settings that the agent keeps in a cluster it runs: hapair.conf, included at the end of postgresql.conf, and
// the agent's lines in pg_hba.conf. Touches nothing else of these files, and never lowers a value that is there.
import { chownSync, existsSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import process from "node:process";
import { join } from "node:path";
import { AgentError, RefusedError } from "../errors.ts";

/** Settings by name; numbers and plain words as PostgreSQL reads them. */
export type Settings = Readonly<Record<string, string>>;

const includeLine = "include_if_exists = 'hapair.conf'  # kept by hapair; settings of its own: see there";

/** What the agent writes: where the server listens and what replication needs. `atLeast` holds the present values. */
export function managedSettings(
  { listen, port, socketDir, atLeast = {} }: {
    listen: string;
    port: number;
    socketDir: string;
    atLeast?: Readonly<Record<string, number>>;
  },
): Settings {
  const raise = (name: string, need: number) => String(Math.max(need, atLeast[name] ?? 0));
  return {
    listen_addresses: listen,
    port: String(port),
    unix_socket_directories: socketDir,
    unix_socket_permissions: "0700",
    wal_level: "logical",
    track_commit_timestamp: "on",
    max_replication_slots: raise("max_replication_slots", 10),
    max_wal_senders: raise("max_wal_senders", 10),
    password_encryption: "scram-sha-256",
    // To standard error, so that pg_ctl's log file has it; in C, so that the reason of a failed start is recognised.
    logging_collector: "off",
    log_destination: "stderr",
    log_line_prefix: "%m [%p] %q%u@%d/%a ",
    lc_messages: "C",
  };
}

function quote(value: string): string {
  if (/[\r\n\0]/.test(value)) throw new RangeError("Cannot write setting: it holds a line break");
  return `'${value.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`;
}

/** The text of a conf file. */
export function formatSettings(settings: Settings): string {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quote(value)}`);
  return ["# Written by hapair; changes made here are lost. Put yours into postgresql.conf.", ...lines, ""].join("\n");
}

/** Names set in a conf file such as postgresql.auto.conf. */
export function namesIn(text: string): string[] {
  return text.split("\n").flatMap((line) => /^\s*([A-Za-z_][\w.]*)\s*(?:=|\s)/.exec(line)?.[1].toLowerCase() ?? []);
}

/** What a server needs whoever runs it: where it listens, and how it logs, is not among it. */
const replicationNames = ["wal_level", "track_commit_timestamp", "max_replication_slots", "max_wal_senders"];

/** Takes back, in a cluster that somebody else will run, what was only for the agent's own start. */
export function leaveToOthers(pgdata: string): void {
  const hba = join(pgdata, "pg_hba.conf");
  replaceFile(hba, withoutAgentLines(readFileSync(hba, "utf8")), pgdata);
  const own = join(pgdata, "hapair.conf");
  const kept = readFileSync(own, "utf8").split("\n").filter((line) =>
    line.startsWith("#") || replicationNames.some((name) => line.startsWith(`${name} =`))
  );
  replaceFile(own, kept.join("\n") + "\n", pgdata);
}

const begin = "# hapair: the socket folder is private to the agent";
const end = "# hapair: end";

function withoutAgentLines(text: string): string {
  const at = text.indexOf(begin);
  const until = text.indexOf(end, at);
  return at >= 0 && until > at ? text.slice(0, at) + text.slice(until + end.length + 1) : text;
}

/** pg_hba.conf with the agent's lines; the first match counts, so ours for the private socket stand first. */
export function withAgentLines(text: string, { openToHosts }: { openToHosts: boolean }): string {
  const own = [begin, "local all all trust", "local replication all trust", end, ""].join("\n");
  const rest = withoutAgentLines(text);
  const hosts = "host all all all scram-sha-256";
  const open = openToHosts && !rest.split("\n").includes(hosts);
  return own + (open ? `${rest.replace(/\n*$/, "\n")}${hosts}\n` : rest);
}

/** Writes a file of the cluster whole or not at all, and leaves it to the owner of the cluster. */
export function replaceFile(path: string, text: string, pgdata: string): void {
  if (existsSync(path) && readFileSync(path, "utf8") === text) return;
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  if (process.getuid?.() === 0) {
    const { uid, gid } = statSync(pgdata);
    chownSync(`${path}.new`, uid, gid);
  }
  renameSync(`${path}.new`, path);
}

/** Puts the settings into the cluster; they count from the next start on. Throws where something overrides them. */
export function writeSettings(pgdata: string, settings: Settings, options: { openToHosts: boolean }): void {
  const main = join(pgdata, "postgresql.conf");
  const hba = join(pgdata, "pg_hba.conf");
  for (const file of [main, hba]) {
    if (existsSync(file)) continue;
    throw new AgentError(
      `Cannot run the cluster in ${pgdata}: ${file} is not there`,
      "put the cluster's configuration into its folder, or leave the server to the system and use --database URL",
    );
  }
  const auto = join(pgdata, "postgresql.auto.conf");
  const overridden = existsSync(auto) ? namesIn(readFileSync(auto, "utf8")).filter((name) => name in settings) : [];
  if (overridden.length > 0) {
    throw new RefusedError(
      `Cannot configure the cluster in ${pgdata}: postgresql.auto.conf overrides ${overridden.join(", ")}`,
      `run ${overridden.map((name) => `ALTER SYSTEM RESET ${name};`).join(" ")} or take the lines out of it`,
    );
  }
  replaceFile(join(pgdata, "hapair.conf"), formatSettings(settings), pgdata);
  replaceFile(hba, withAgentLines(readFileSync(hba, "utf8"), options), pgdata);
  const text = readFileSync(main, "utf8");
  if (!text.includes(includeLine)) replaceFile(main, `${text.replace(/\n*$/, "\n")}${includeLine}\n`, pgdata);
}
