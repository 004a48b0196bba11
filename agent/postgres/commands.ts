// Starts and stops a server that somebody else runs, by the commands of agent.toml, e.g. of systemd or pg_ctlcluster.
// Never starts one that is there already, whatever it answers: only a port where nobody listens counts as down.
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { AgentError, reason, UnreachableError } from "../errors.ts";
import { connectionError, errorCode, openPool, type Target } from "./connect.ts";
import { withDeadline } from "./deadline.ts";
import { lastLines } from "./server.ts";

const commandMs = 120_000;
const upMs = 120_000;
const askMs = 10_000;
const everyMs = 250;

/** A server of which agent.toml tells how it is started or stopped. */
export interface CommandedServer {
  readonly target: Target;
  readonly startCommand?: string;
  readonly stopCommand?: string;
  /** Takes what the commands print. */
  readonly logFile: string;
}

/** `up`: it answers; `down`: nobody listens there; else why it does not answer. */
export async function askServer(target: Target): Promise<"up" | "down" | Error> {
  const sql = openPool(target, { purpose: "watch", max: 1 });
  try {
    await withDeadline(sql`SELECT 1`, askMs, "reach PostgreSQL");
    return "up";
  } catch (error) {
    // A socket that is gone, or a port that nobody listens at.
    if (["ECONNREFUSED", "ENOENT"].includes(errorCode(error) ?? "")) return "down";
    return connectionError(error, target);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Starts it if it is down, and waits until it answers. True if it was started. */
export async function ensureStarted(server: CommandedServer, signal?: AbortSignal): Promise<boolean> {
  const { target, startCommand } = server;
  const before = await askServer(target);
  if (before === "up") return false;
  if (before === "down") {
    if (startCommand === undefined) {
      throw new AgentError(
        `Cannot start PostgreSQL at ${target.host}:${target.port}: it is down, and there is no start_command`,
        "start it, or say with [postgres] start_command in agent.toml how that is done",
      );
    }
    await runCommand("start_command", startCommand, server.logFile);
  }
  const end = performance.now() + upMs;
  for (;;) {
    const now = await askServer(target);
    if (now === "up") return before === "down";
    // A wrong password does not pass by itself.
    if (now !== "down" && !(now instanceof UnreachableError)) throw now;
    if (performance.now() >= end) {
      const state = now === "down" ? "nobody listens there" : now.message;
      throw new AgentError(
        `Cannot use PostgreSQL at ${target.host}:${target.port}${
          before === "down" ? " after start_command" : ""
        }: ${state}`,
        "read PostgreSQL's log; see that start_command starts the server that [postgres] url names",
      );
    }
    await delay(everyMs, undefined, { signal });
  }
}

/** Stops it and waits until nobody listens. Nothing to do if it is down. */
export async function ensureStopped(server: CommandedServer): Promise<void> {
  const { target, stopCommand } = server;
  if (await askServer(target) === "down") return;
  if (stopCommand === undefined) {
    throw new AgentError(
      `Cannot stop PostgreSQL at ${target.host}:${target.port}: there is no stop_command`,
      "stop it, or say with --stop-command how that is done",
    );
  }
  await runCommand("stop_command", stopCommand, server.logFile);
  const end = performance.now() + upMs;
  while (await askServer(target) !== "down") {
    if (performance.now() >= end) {
      throw new AgentError(
        `Cannot stop PostgreSQL at ${target.host}:${target.port}: stop_command is done, but it still runs`,
        "see that stop_command stops the server that [postgres] url names",
      );
    }
    await delay(everyMs);
  }
}

/** Runs one command of agent.toml in a shell, as the agent's own user. What it leaves running goes on. */
async function runCommand(name: string, command: string, logFile: string): Promise<void> {
  // Into a file, not a pipe: a server that is started so keeps it open, and must not die with the agent.
  mkdirSync(dirname(logFile), { recursive: true, mode: 0o700 });
  const log = openSync(logFile, "w", 0o600);
  try {
    const status = await new Promise<string>((resolve) => {
      const child = spawn("/bin/sh", ["-c", command], {
        cwd: "/",
        detached: true,
        env: process.env,
        stdio: ["ignore", log, log],
      });
      const timer = setTimeout(() => {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
        resolve(`it was not done after ${commandMs / 1000} s`);
      }, commandMs);
      child.on("error", (error) => resolve(reason(error)));
      child.on("exit", (code, signal) => {
        clearTimeout(timer);
        resolve(code === 0 ? "" : signal ? `it was ended by ${signal}` : `it ended with ${code}`);
      });
    });
    if (status === "") return;
    const said = lastLines(readFileSync(logFile, "utf8"), 2);
    throw new AgentError(
      `Cannot run ${name}: ${status}${said ? `: ${said}` : ""}`,
      `try it by hand as the agent's user; its output is in ${logFile}`,
    );
  } finally {
    closeSync(log);
  }
}
