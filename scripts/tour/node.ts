// One node of the quickstart's pair: the compiled agent, its home and its PostgreSQL. Started as an operator would, killed
// as a power cut would. Touches no process that it did not start.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parse, stringify } from "smol-toml";
import { callAgent } from "../../agent/api/admin_client.ts";
import { homeAt } from "../../agent/home.ts";
import type { Status } from "../../agent/monitor/status.ts";
import { openPool, type Sql } from "../../agent/postgres/connect.ts";
import type { Address, NodePlace, Place } from "./place.ts";
import { Hopeless, until } from "./wait.ts";

export const executable = resolve(dirname(fileURLToPath(import.meta.url)), "../../dist/agent");

/** Variables that would steer the agent or PostgreSQL elsewhere stay outside. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith("PG") && !name.startsWith("AGENT_")),
);

export class TourNode {
  readonly home: string;
  readonly pgdata: string;
  readonly logFile: string;
  private pid: number | undefined;
  private ended: string | undefined;
  private looking: Sql | undefined;
  private underWay: ChildProcess | undefined;

  constructor(readonly role: "primary" | "secondary", readonly place: NodePlace, { dir }: Place) {
    this.home = join(dir, role);
    this.pgdata = join(dir, `${role}-data`);
    this.logFile = join(dir, `${role}.log`);
  }

  get name(): string {
    return text(this.place.peer);
  }

  get agentPid(): number | undefined {
    return this.pid;
  }

  /** Runs one command of the agent to its end; its answer, as with --json. */
  async command<T>(...args: string[]): Promise<T> {
    const child = spawn(executable, [...args, "--json", "--home", this.home], {
      cwd: "/",
      env: environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.underWay = child;
    const output = { out: "", err: "" };
    child.stdout.on("data", (chunk) => output.out += chunk);
    child.stderr.on("data", (chunk) => output.err += chunk);
    const code = await new Promise<number | null>((done, fail) => child.on("error", fail).on("close", done));
    if (code === 0) return JSON.parse(output.out);
    throw new Error(`agent ${args.slice(0, 2).join(" ")} ended with ${code}: ${(output.err || output.out).trim()}`);
  }

  /** Where the agent listens for its peer, and where it looks for it. */
  route({ listen, peer }: { listen: Address; peer: Address }): void {
    const file = homeAt(this.home).configFile;
    const document = parse(readFileSync(file, "utf8")) as Record<string, Record<string, unknown>>;
    document.node.listen = text(listen);
    document.peer.address = text(peer);
    writeFileSync(file, stringify(document) + "\n");
  }

  /** `agent run`, in a process of its own that outlives this one. */
  start(): void {
    const log = openSync(this.logFile, "a");
    const child = spawn(executable, ["run", "--home", this.home], {
      cwd: "/",
      detached: true,
      env: environment,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    this.ended = undefined;
    this.pid = child.pid;
    child.on("exit", (code, signal) => {
      if (this.pid !== child.pid) return;
      this.pid = undefined;
      this.ended = signal ?? `code ${code}`;
    });
    child.unref();
  }

  status(): Promise<Status> {
    return callAgent<Status>(homeAt(this.home).adminSocket, "GET", "/status", undefined, 2000);
  }

  /** Waits until the agent's own status is as wanted. */
  async reach(what: string, wanted: (status: Status) => boolean, deadlineMs = 45_000): Promise<Status> {
    return await until(`the ${this.role} to be ${what}`, async () => {
      if (this.pid === undefined) throw new Hopeless(`the ${this.role}'s agent ended with ${this.ended ?? "no code"}`);
      const status = await this.status();
      if (wanted(status)) return status;
      throw new Error(`it is ${status.node.state} (${status.node.why})`);
    }, { deadlineMs });
  }

  /** A way in that sees everything, whatever the guard says. */
  get sql(): Sql {
    this.looking ??= openPool(
      { host: homeAt(this.home).runDir, port: this.place.postgres.port, user: "postgres", database: "app" },
      { purpose: "quickstart", max: 2 },
    );
    return this.looking;
  }

  /** kill -9 of agent and PostgreSQL, every process of them. */
  kill(): void {
    const agent = this.pid;
    this.pid = undefined;
    if (agent !== undefined) send(-agent, "SIGKILL");
    const postmaster = this.postmaster();
    if (postmaster === undefined || !send(postmaster, "SIGSTOP")) return;
    for (const child of childrenOf(postmaster)) send(child, "SIGKILL");
    send(postmaster, "SIGKILL");
  }

  /** SIGTERM, as a service manager does; what is left after that is killed. */
  async stop(): Promise<void> {
    // A command that was under way when the story broke off.
    if (this.underWay?.exitCode === null) this.underWay.kill("SIGTERM");
    await this.looking?.end({ timeout: 1 });
    this.looking = undefined;
    const agent = this.pid;
    if (agent !== undefined && send(agent, "SIGTERM")) {
      await until(`the end of the ${this.role}'s agent`, () => this.pid === undefined, { deadlineMs: 20_000 })
        .catch(() => undefined);
    }
    const clean = this.pid === undefined && this.postmaster() === undefined;
    this.kill();
    await until(`the end of the ${this.role}'s PostgreSQL`, () => this.postmaster() === undefined);
    if (agent !== undefined && !clean) throw new Error(`the ${this.role} did not stop on SIGTERM and was killed`);
  }

  private postmaster(): number | undefined {
    const file = join(this.pgdata, "postmaster.pid");
    if (!existsSync(file)) return undefined;
    const pid = Number(readFileSync(file, "utf8").split("\n")[0]);
    return pid > 0 && isAlive(pid) ? pid : undefined;
  }

  lastLog(lines: number): string {
    const all = existsSync(this.logFile) ? readFileSync(this.logFile, "utf8").trimEnd().split("\n") : [];
    return all.slice(-lines).map((line) => `  ${line}`).join("\n");
  }
}

export const text = ({ host, port }: Address): string => `${host}:${port}`;

/** False where the process is gone. */
function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** A zombie, dead but not yet reaped by whoever should, counts as gone. */
function isAlive(pid: number): boolean {
  const stat = `/proc/${pid}/stat`;
  if (!existsSync("/proc/self/stat")) return send(pid, 0);
  try {
    const line = readFileSync(stat, "latin1");
    return line.slice(line.lastIndexOf(")") + 2, line.lastIndexOf(")") + 3) !== "Z";
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

function childrenOf(parent: number): number[] {
  if (existsSync("/proc/self/stat")) {
    return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) =>
      parentOf(pid) === parent
    );
  }
  const { stdout } = spawnSync("ps", ["-axo", "pid=,ppid="], { encoding: "utf8" });
  return (stdout ?? "").split("\n").map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, ppid]) => ppid === parent).map(([pid]) => pid);
}

function parentOf(pid: number): number | undefined {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "latin1");
    return Number(line.slice(line.lastIndexOf(")") + 2).split(" ")[1]);
  } catch (error) {
    if (["ENOENT", "ESRCH", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
