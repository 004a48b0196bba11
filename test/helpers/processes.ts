// The processes of this machine, as /proc shows them: to find what a test left behind, and to kill a server whole.
// Never touches a process that does not name the folder or the parent asked for.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

export interface Running {
  pid: number;
  parent: number;
  /** `Z` is a zombie: dead, but not yet reaped. */
  state: string;
  command: string;
}

function readProcess(pid: number): Running | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
    return { pid, parent: Number(parent), state, command };
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT" || code === "ESRCH" || code === "EACCES") return undefined; // gone meanwhile
    throw error;
  }
}

/** All processes that are alive; none where there is no /proc. */
export function runningProcesses(): Running[] {
  if (!existsSync("/proc/self/stat")) return [];
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map((name) => readProcess(Number(name)))
    .filter((found): found is Running => found !== undefined && found.state !== "Z");
}

/** Those that name `folder` in their command line, and their children; not this process. */
export function processesOf(folder: string): Running[] {
  const all = runningProcesses();
  const found = new Map(all.filter((p) => p.command.includes(folder)).map((p) => [p.pid, p]));
  for (let before = -1; before !== found.size;) {
    before = found.size;
    for (const p of all) if (found.has(p.parent)) found.set(p.pid, p);
  }
  found.delete(process.pid);
  return [...found.values()];
}

export function isAlive(pid: number): boolean {
  const found = readProcess(pid);
  return found !== undefined && found.state !== "Z";
}

/** Sends a signal; false where the process is gone already. */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if ((error as { code?: string }).code === "ESRCH") return false;
    throw error;
  }
}

/** kill -9 of a process and all below it, in such a way that none sees another die first. */
export function killTree(pid: number): void {
  if (!sendSignal(pid, "SIGSTOP")) return;
  for (const child of childrenOf(pid)) killTree(child);
  sendSignal(pid, "SIGKILL");
}

/** SIGSTOP of a process and all below it: it hangs, with every connection open. */
export function freezeTree(pid: number): void {
  if (!sendSignal(pid, "SIGSTOP")) return;
  for (const child of childrenOf(pid)) freezeTree(child);
}

/** The end of freezeTree. Children first: what was sent to them meanwhile is done before anybody can tell them otherwise. */
export function thawTree(pid: number): void {
  for (const child of childrenOf(pid)) thawTree(child);
  sendSignal(pid, "SIGCONT");
}

function childrenOf(pid: number): number[] {
  return runningProcesses().filter((p) => p.parent === pid).map((p) => p.pid);
}

/** The pid of the postmaster that serves `pgdata`; undefined where none does. */
export function postmasterPid(pgdata: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(pgdata, "postmaster.pid"), "utf8").split("\n")[0]);
    return pid > 0 && isAlive(pid) ? pid : undefined;
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return undefined;
    throw error;
  }
}
