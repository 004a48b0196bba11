// `agent backup` and `agent restore`: a copy of this server into a file, and such a file into a server of no pair.
import type { Command } from "commander";
import { makeBackup } from "../agent/setup/backup.ts";
import { restoreBackup, type Restored, type RestoreOptions } from "../agent/setup/restore.ts";
import { contextOf, parsePort, parseText, requireOption } from "./context.ts";
import { watchSteps } from "./steps.ts";

export function addBackup(program: Command): void {
  program.command("backup")
    .description("make a backup of this node's server, encrypted to the master key; PostgreSQL must be running")
    .argument("[file]", "a new file (default: one of its own name below <home>/backup)", parseText)
    .action(async (given: string | undefined, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const { file, fileBytes, manifest } = await makeBackup(context.home, { file: given }, watchSteps(context));
      context.print({ file, file_bytes: fileBytes, ...manifest }, `Ready: ${file}`);
    });
}

export function addRestore(program: Command): void {
  program.command("restore")
    .description("make a server of no pair from a backup (or a pack), in an empty folder")
    .argument("<file>", "the backup", parseText)
    .option("--pgdata <dir>", "where the cluster will be: an empty or missing folder", parseText)
    .option("--key <file>", "the master key (default: that of manage_key.conf)", parseText)
    .option("--pg-bin <dir>", "folder of PostgreSQL's programs", parseText)
    .option("--pg-port <port>", "port of PostgreSQL (default: that of the backup)", parsePort)
    .option("--os-user <name>", "whom PostgreSQL runs as, if the agent runs as root", parseText)
    .action(async (file: string, options: Omit<Partial<RestoreOptions>, "file">, command: Command) => {
      const context = contextOf(command);
      const pgdata = requireOption(options.pgdata, "Cannot restore: no --pgdata is given", "add --pgdata DIR");
      const restored = await restoreBackup(context.home, { ...options, file, pgdata }, watchSteps(context));
      context.print(restored, tell(restored));
    });
}

function tell(restored: Restored): string {
  const { pgdata, dbname, port, bin_dir, os_user } = restored;
  const lines = [`Ready: ${pgdata}, as of ${restored.taken_at} (${restored.end_lsn}), a server of no pair.`];
  if (restored.conflicts_kept_in !== null) {
    lines.push(`The conflict log of its former pair is in ${restored.conflicts_kept_in}.`);
  }
  if (restored.prepared_rolled_back.length > 0) {
    lines.push(`Rolled back, as it was prepared but not committed: ${restored.prepared_rolled_back.join(", ")}`);
  }
  if (restored.subscriptions_disabled.length > 0) {
    lines.push(`Subscriptions disabled: ${restored.subscriptions_disabled.join(", ")}`);
  }
  return [
    ...lines,
    `Start it by itself${os_user === null ? "" : `, as ${os_user}`} (it listens on localhost and in ${pgdata}):`,
    `  ${bin_dir}/pg_ctl -D ${pgdata} -l ${pgdata}/server.log start`,
    "or make it the primary of a new pair:",
    `  agent setup primary PRIMARY SECONDARY --pgdata ${pgdata} --dbname ${dbname} --pg-port ${port} --key FILE`,
  ].join("\n");
}
