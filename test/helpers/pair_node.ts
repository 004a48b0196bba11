// One node of a real pair: the compiled agent, its home and its PostgreSQL, started, stopped and killed as a test asks.
// Knows the commands and files of the README only, nothing of the agent's inside.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parse, stringify } from "smol-toml";
import { openPool, type Sql } from "../../agent/postgres/connect.ts";
import { freezeTree, isAlive, killTree, postmasterPid, sendSignal, thawTree } from "./processes.ts";
import type { Scope } from "./scope.ts";
import { type ClientTarget, openClient } from "./follower.ts";
import { waitFor } from "./wait.ts";

export const executable = process.env.TEST_AGENT ??
  resolve(dirname(fileURLToPath(import.meta.url)), "../../dist/agent");

export type Role = "primary" | "secondary";

/** `agent status --json`, as far as tests look at it. */
export interface Status {
  node: { name: string; role: Role; state: string; writable: boolean; epoch: number; since: string; why: string };
  peer: { role: Role; state: string; reachable: boolean; last_seen: string | null };
  database: { running: boolean; version: string; url: string };
  outgoing: { pending_bytes: number; pending_transactions: number; retained_wal_bytes: number };
  incoming: { applied_lsn: string; lag_seconds: number; pending_bytes: number };
  merge: { active: boolean; merged_transactions: number; conflicts: number };
  conflicts: { total: number; unreviewed: number; quarantined: number };
  alerts: { name: string; severity: string; message: string }[];
}

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs the executable once and waits for its end. Throws only where it does not end in time. */
export async function runAgent(
  args: string[],
  { env = {}, timeoutMs = 120_000 }: { env?: Record<string, string>; timeoutMs?: number } = {},
): Promise<Ran> {
  const child = spawn(executable, args, {
    cwd: "/",
    env: { PATH: "/usr/bin:/bin", TMPDIR: process.env.TMPDIR ?? "/tmp", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  let late = false;
  child.stdout.on("data", (chunk) => stdout += chunk);
  child.stderr.on("data", (chunk) => stderr += chunk);
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  const [code] = await once(child, "close");
  clearTimeout(timer);
  if (late) throw new Error(`agent ${args.join(" ")} did not end within ${timeoutMs} ms; it said: ${stderr || stdout}`);
  return { code: code ?? -1, stdout, stderr };
}

export interface NodePlace {
  role: Role;
  dir: string;
  host: string;
  port: number;
  pgPort: number;
}

export class PairNode {
  readonly role: Role;
  readonly host: string;
  readonly port: number;
  readonly pgPort: number;
  readonly home: string;
  readonly pgdata: string;
  readonly logFile: string;
  readonly #scope: Scope;
  #agentPid: number | undefined;
  #exit: Promise<number | null> | undefined;
  #superuser: Sql | undefined;

  constructor(scope: Scope, { role, dir, host, port, pgPort }: NodePlace) {
    this.#scope = scope;
    this.role = role;
    this.host = host;
    this.port = port;
    this.pgPort = pgPort;
    this.home = join(dir, role);
    this.pgdata = join(dir, `${role}-data`);
    this.logFile = join(dir, `${role}.log`);
    scope.account(() => this.tellLogs());
    scope.defer(`${role}'s agent and server`, () => this.#close());
  }

  /** As in `127.0.0.1:8282`: what setup takes. */
  get name(): string {
    return `${this.host}:${this.port}`;
  }

  /** Runs a command on this home. Throws if it ends otherwise than with `expect`. */
  async agent(args: string[], { expect = 0, timeoutMs = 120_000 } = {}): Promise<Ran> {
    const ran = await runAgent([...args, "--home", this.home], { timeoutMs });
    if (ran.code === expect) return ran;
    throw new Error(
      `agent ${args.join(" ")} on the ${this.role} ended with ${ran.code}, not ${expect}:\n${ran.stderr}${ran.stdout}`,
    );
  }

  /** Changes keys of conf/agent.toml, table by table. */
  configure(changes: Record<string, Record<string, string | number>>): void {
    const file = join(this.home, "conf", "agent.toml");
    const document = parse(readFileSync(file, "utf8")) as Record<string, Record<string, string | number>>;
    for (const [table, keys] of Object.entries(changes)) document[table] = { ...document[table], ...keys };
    writeFileSync(file, stringify(document));
  }

  /** `agent run`, its output appended to the log. Returns at once. */
  start(): void {
    if (this.isRunning) throw new Error(`Cannot start the ${this.role}: its agent runs already`);
    const log = openSync(this.logFile, "a");
    const child = spawn(executable, ["run", "--home", this.home], {
      cwd: "/",
      detached: true,
      env: { PATH: "/usr/bin:/bin", TMPDIR: process.env.TMPDIR ?? "/tmp" },
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.#agentPid = child.pid;
    this.#exit = new Promise((done) => child.on("exit", (code) => done(code)));
    child.unref();
  }

  get isRunning(): boolean {
    return this.#agentPid !== undefined && isAlive(this.#agentPid);
  }

  /** SIGTERM, as a service manager does: the agent must end with 0 and its PostgreSQL with it. */
  async stop({ timeoutMs = 30_000 } = {}): Promise<void> {
    const pid = this.#agentPid;
    if (pid === undefined || !sendSignal(pid, "SIGTERM")) {
      throw new Error(`Cannot stop the ${this.role}: it is not running`);
    }
    await waitFor(() => !isAlive(pid), { what: `the end of the ${this.role}'s agent`, deadlineMs: timeoutMs });
    const code = await this.#exit;
    this.#agentPid = undefined;
    if (code !== 0) throw new Error(`The ${this.role}'s agent ended with ${code} on SIGTERM; it must end with 0`);
    if (postmasterPid(this.pgdata)) throw new Error(`The ${this.role}'s agent has left its PostgreSQL running`);
  }

  /** kill -9. Its PostgreSQL goes on. */
  killAgent(): void {
    if (this.#agentPid !== undefined) sendSignal(-this.#agentPid, "SIGKILL");
    this.#agentPid = undefined;
  }

  /** kill -9 of PostgreSQL, postmaster and backends alike. */
  killPostgres(): void {
    const pid = postmasterPid(this.pgdata);
    if (pid) killTree(pid);
  }

  /** SIGSTOP of PostgreSQL, postmaster and backends alike: it takes connections and answers nothing. */
  freezePostgres(): void {
    freezeTree(this.#postmaster());
  }

  /** SIGCONT: it goes on where it stood. */
  thawPostgres(): void {
    thawTree(this.#postmaster());
  }

  #postmaster(): number {
    const pid = postmasterPid(this.pgdata);
    if (pid === undefined) throw new Error(`The ${this.role}'s PostgreSQL does not run`);
    return pid;
  }

  /** The server is gone, as with the power cut. */
  kill(): void {
    this.killAgent();
    this.killPostgres();
  }

  async status(): Promise<Status> {
    const ran = await this.agent(["status", "--json"], { timeoutMs: 10_000 });
    return JSON.parse(ran.stdout);
  }

  /** Waits until the status is as wanted; the last status is in the error. */
  async waitStatus(what: string, wanted: (status: Status) => boolean, deadlineMs = 30_000): Promise<Status> {
    return await waitFor(
      async () => {
        const status = await this.status();
        if (wanted(status)) return status;
        const { node, peer } = status;
        throw new Error(
          `it is ${node.state}, ${node.writable ? "writable" : "closed"}, epoch ${node.epoch}, "${node.why}"; ` +
            `peer ${peer.state}, ${peer.reachable ? "reachable" : "not reachable"}; ${JSON.stringify(status.outgoing)}`,
        );
      },
      {
        what: `the ${this.role} to be ${what}`,
        deadlineMs,
        everyMs: 150,
        inVain: () => this.isRunning ? undefined : "its agent does not run",
      },
    );
  }

  /** A node that has just begun to serve opens its guard a moment later, and ends the sessions that are there. */
  waitState(state: string, deadlineMs?: number): Promise<Status> {
    const reached = ({ node }: Status) => node.state === state && (state !== "serving" || node.writable);
    return this.waitStatus(state, reached, deadlineMs);
  }

  /** Serving, and its guard open: the one comes a moment before the other. */
  waitServing(deadlineMs?: number): Promise<Status> {
    return this.waitStatus("serving and writable", (s) => s.node.state === "serving" && s.node.writable, deadlineMs);
  }

  /** A pool as `postgres` over the private socket: to look, whatever the guard says. */
  get superuser(): Sql {
    if (!this.#superuser) {
      const target = { host: join(this.home, "run"), port: this.pgPort, user: "postgres", database: "app" };
      const sql = openPool(target, { purpose: "test", max: 4 });
      this.#superuser = sql;
      this.#scope.defer(`connections to the ${this.role}`, () => sql.end({ timeout: 1 }));
    }
    return this.#superuser;
  }

  /** A pool as the application, over TCP. */
  app(target: ClientTarget): Sql {
    const sql = openClient(target, { max: 4, host: { host: this.host, port: this.pgPort } });
    this.#scope.defer(`the application's connections to the ${this.role}`, () => sql.end({ timeout: 1 }));
    return sql;
  }

  /** The most memory that the agent has had so far, in MB. */
  peakMemoryMb(): number {
    const text = readFileSync(`/proc/${this.#agentPid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1]) / 1024;
  }

  /** What the agent has now, in MB. */
  memoryMb(): number {
    const text = readFileSync(`/proc/${this.#agentPid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1]) / 1024;
  }

  /** Files and sockets that the agent has open. */
  openFiles(): number {
    return readdirSync(`/proc/${this.#agentPid}/fd`).length;
  }

  tellLogs(): string {
    const tail = (path: string, lines: number) =>
      existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n").slice(-lines).join("\n") : "(none)";
    return `--- ${this.role}: agent's log\n${tail(this.logFile, 60)}\n` +
      `--- ${this.role}: PostgreSQL's log\n${tail(join(this.home, "run", "postgres.log"), 25)}`;
  }

  async #close(): Promise<void> {
    try {
      if (this.isRunning) await this.stop();
    } finally {
      this.kill();
    }
  }
}
