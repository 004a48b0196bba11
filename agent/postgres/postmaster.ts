// What runs in a data directory: postmaster.pid, whether that process lives, and whether it really is PostgreSQL.
// Only looks; never signals or removes anything.
import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";

/** The lines of postmaster.pid (src/include/utils/pidfile.h). */
export interface PidFile {
  readonly pid: number;
  readonly dataDir: string;
  readonly port: number | null;
  readonly socketDir: string;
  readonly listen: string;
  /** `starting`, `stopping`, `ready` or `standby`; empty in the first moments. */
  readonly status: string;
}

export type Status =
  | { readonly running: false; readonly stalePid: number | null }
  | ({ readonly running: true } & PidFile);

/** Parses postmaster.pid; undefined where the first line is no process id (a file just being written). */
export function parsePidFile(text: string): PidFile | undefined {
  const line = text.split("\n").map((each) => each.trim());
  const pid = Number(line[0]);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  return {
    pid,
    dataDir: line[1] ?? "",
    port: line[3] ? Number(line[3]) : null,
    socketDir: line[4] ?? "",
    listen: line[5] ?? "",
    status: line[7] ?? "",
  };
}

/** Reads a file that may go away at any moment; undefined if it has. */
function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

/** True if there is a process of that id, whatever it is. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}

/** True if a process of that id lives, is no zombie, and is PostgreSQL (a process id may have been given anew). */
export function isPostgres(pid: number): boolean {
  if (process.platform === "linux") {
    // "pid (comm) state ...": a container whose init reaps nothing keeps dead postmasters as zombies (Z).
    const stat = readIfThere(`/proc/${pid}/stat`);
    const match = stat === undefined ? null : /\((.*)\) (\S)/s.exec(stat);
    return match !== null && match[1].startsWith("postgres") && match[2] !== "Z" && match[2] !== "X";
  }
  if (!isAlive(pid)) return false;
  if (process.platform === "win32") return true;
  const ran = spawnSync("ps", ["-p", String(pid), "-o", "comm="], { encoding: "utf8" });
  return ran.status === 0 && ran.stdout.includes("postgres");
}

/** Whether a postmaster runs in `pgdata`. A leftover postmaster.pid counts as not running (`stalePid`). */
export function readStatus(pgdata: string): Status {
  const text = readIfThere(join(pgdata, "postmaster.pid"));
  const file = text === undefined ? undefined : parsePidFile(text);
  if (file === undefined) return { running: false, stalePid: null };
  return isPostgres(file.pid) ? { running: true, ...file } : { running: false, stalePid: file.pid };
}

/** All PostgreSQL processes that work in `pgdata`, orphans of a killed postmaster among them. Linux only, else []. */
export function processesIn(pgdata: string): number[] {
  if (process.platform !== "linux") return [];
  const folder = realpathSync(pgdata);
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/cwd`) === folder && isPostgres(pid);
    } catch (error) {
      // Gone meanwhile, a zombie, or another user's process whose working folder is not ours to read.
      if (["ENOENT", "ESRCH", "EACCES", "EPERM"].includes((error as { code?: string }).code ?? "")) return false;
      throw error;
    }
  });
}
