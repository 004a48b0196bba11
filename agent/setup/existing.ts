// A server that somebody else runs, e.g. systemd or Debian's pg_ctlcluster: found by its URL, and left as it is. It is
// started, stopped or given settings only by the commands, and on the word, of whoever calls setup.
import { RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { type CommandedServer, ensureStarted, ensureStopped } from "../postgres/commands.ts";
import { connectionError, openPool, type Sql, type Target } from "../postgres/connect.ts";
import { checkSettings, readSettings } from "../postgres/settings.ts";
import type { Document } from "./files.ts";
import type { ReadyServer, ServerOptions } from "./server.ts";
import type { Steps } from "./steps.ts";

/** The parts of a postgres:// URL. */
export function parseDatabaseUrl(text: string, dbname?: string): Target {
  const problem = (what: string) =>
    new UsageError(
      `Cannot use --database: ${what}`,
      "name it like postgres://postgres:password@db.example.com:5432/app",
    );
  if (!URL.canParse(text)) throw problem("it is no URL");
  const url = new URL(text);
  if (url.protocol !== "postgres:" && url.protocol !== "postgresql:") {
    throw problem("it does not begin with postgres://");
  }
  const decoded = (part: string) => {
    try {
      return decodeURIComponent(part);
    } catch (error) {
      if (error instanceof URIError) {
        throw problem("it has a % that is not followed by two digits of a UTF-8 character");
      }
      throw error;
    }
  };
  return {
    host: url.searchParams.get("host") ?? (decoded(url.hostname).replace(/^\[|\]$/g, "") || "localhost"),
    port: Number(url.port || 5432),
    user: decoded(url.username) || "postgres",
    database: dbname ?? (decoded(url.pathname.slice(1)) || "app"),
    ...(url.password ? { password: decoded(url.password) } : {}),
  };
}

/** A server that somebody else runs: started if it is down, restarted for its settings if that is allowed. */
export async function openExisting(
  home: Home,
  url: string,
  options: ServerOptions,
  steps: Steps,
): Promise<ReadyServer> {
  const { startCommand, stopCommand } = options;
  const target = parseDatabaseUrl(url, options.dbname);
  const server = { target, startCommand, stopCommand, logFile: home.commandLog };
  if (startCommand !== undefined) {
    await steps.run("PostgreSQL", () => ensureStarted(server), (started) => started ? "started" : "runs");
  }
  if (options.restart) await restartForSettings(server, steps);
  const sql = openPool(target, { purpose: "setup" });
  try {
    await steps.run("server settings", () => refuseUnfit(sql, target));
  } catch (error) {
    await sql.end({ timeout: 1 });
    throw error;
  }
  return {
    target,
    sql,
    section: existingSection(url, target, options),
    port: target.port,
    release: () => sql.end({ timeout: 5 }),
  };
}

/** agent.toml's [postgres] for it. */
export function existingSection(
  url: string,
  target: Target,
  { startCommand, stopCommand }: Pick<ServerOptions, "startCommand" | "stopCommand">,
): Document {
  return {
    url,
    dbname: target.database,
    port: target.port,
    ...(startCommand === undefined ? {} : { start_command: startCommand }),
    ...(stopCommand === undefined ? {} : { stop_command: stopCommand }),
  };
}

/** Only if all that is wrong are settings that a restart brings; otherwise it is refused as it is. */
async function restartForSettings(server: CommandedServer, steps: Steps): Promise<void> {
  const sql = openPool(server.target, { purpose: "setup", max: 1 });
  try {
    const findings = checkSettings(await readSettings(sql));
    if (findings.length === 0 || findings.some(({ alter }) => alter === null)) return;
    if (server.startCommand === undefined || server.stopCommand === undefined) {
      throw new UsageError(
        "Cannot restart this server: it is not known how",
        "add --start-command and --stop-command, or restart it yourself and leave --restart out",
      );
    }
    for (const { alter } of findings) await sql.unsafe(alter!);
    await sql.end({ timeout: 5 });
    await steps.run("PostgreSQL restarted", async () => {
      await ensureStopped(server);
      await ensureStarted(server);
    }, () => findings.map(({ name, need }) => `${name} ${need}`).join(", "));
  } catch (error) {
    throw connectionError(error, server.target);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Refuses a server whose settings do not fit, naming each. */
export async function refuseUnfit(sql: Sql, target: Target): Promise<void> {
  const findings = checkSettings(
    await readSettings(sql).catch((error) => {
      throw connectionError(error, target);
    }),
  );
  if (findings.length === 0) return;
  const what = findings.map(({ name, have, need }) => `${name} is ${have}, needed is ${need}`).join("; ");
  throw new RefusedError(
    `Cannot use this server: ${what}`,
    findings.map(({ remedy }) => remedy.replace("; then restart PostgreSQL", ";")).join(" ") +
      (findings.some((each) => each.needsRestart) ? " then restart PostgreSQL" : ""),
  );
}
