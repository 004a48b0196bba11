// What processes use, as /proc tells it: CPU time and the most memory so far.
import { readFileSync, writeFileSync } from "node:fs";
import { postmasterPid, runningProcesses } from "../test/helpers/processes.ts";

/** Linux counts in hundredths of a second towards programs, on every architecture. */
const ticksPerSecond = 100;

/** CPU seconds, user and system, of a process itself and of its children that have ended. */
function cpuTimes(pid: number): { own: number; children: number } {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
    return { own: (fields[11] + fields[12]) / ticksPerSecond, children: (fields[13] + fields[14]) / ticksPerSecond };
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as { code?: string }).code ?? "")) return { own: 0, children: 0 };
    throw error;
  }
}

export const processCpu = (pid: number): number => cpuTimes(pid).own;

/** CPU seconds of a server: of all its processes, those that have ended included. */
export function serverCpu(pgdata: string): number {
  const postmaster = postmasterPid(pgdata);
  if (postmaster === undefined) throw new Error(`Cannot measure: no server runs in ${pgdata}`);
  const { own, children } = cpuTimes(postmaster);
  const backends = runningProcesses().filter((each) => each.parent === postmaster);
  return backends.reduce((sum, { pid }) => {
    const times = cpuTimes(pid);
    return sum + times.own + times.children;
  }, own + children);
}

/** CPU seconds of the whole machine, idle time left out: shows what others took meanwhile. */
export function machineCpu(): number {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync("/proc/stat", "latin1").split("\n")[0].split(/\s+/)
    .slice(1).map(Number);
  return (user + nice + system + irq + softirq + steal) / ticksPerSecond;
}

/** The most resident memory that a process has had since it started, or since `forgetPeak`, in MB. */
export function peakMemoryMb(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}
