// Finds the folder of PostgreSQL's programs (initdb, pg_ctl, postgres) and says which major version they are.
// Never picks a version that is not supported without saying so.
import { accessSync, constants, readdirSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { delimiter, join, resolve } from "node:path";
import process from "node:process";
import { AgentError, UsageError } from "../errors.ts";

export const supportedMajors = [15, 16, 17, 18] as const;

export interface Binaries {
  readonly binDir: string;
  readonly major: number;
  /** As in `18.4`. */
  readonly version: string;
}

const suffix = process.platform === "win32" ? ".exe" : "";
const programs = ["postgres", "pg_ctl", "initdb"];

/** Path of a program in a bin folder. */
export function program(binDir: string, name: string): string {
  return join(binDir, name + suffix);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === undefined) throw error;
    return false;
  }
}

/** Reads `postgres (PostgreSQL) 18.4 (Debian ...)`; undefined where it is something else. */
export function parseVersion(text: string): { major: number; version: string } | undefined {
  const match = /\(PostgreSQL\) ((\d+)\S*)/.exec(text);
  return match ? { major: Number(match[2]), version: match[1] } : undefined;
}

/** Checks one bin folder. Throws UsageError where a program is missing or its version is not 15-18. */
export function checkBinaries(folder: string): Binaries {
  const binDir = resolve(folder);
  for (const name of programs) {
    if (isExecutable(program(binDir, name))) continue;
    throw new UsageError(
      `Cannot use ${binDir}: there is no program ${name} in it`,
      "name the folder of PostgreSQL's programs with --pg-bin, e.g. /usr/lib/postgresql/18/bin",
    );
  }
  // "/" as working folder: the caller's own may not be readable to whoever the programs run as.
  const ran = spawnSync(program(binDir, "postgres"), ["--version"], { encoding: "utf8", cwd: "/" });
  const found = parseVersion(ran.stdout ?? "");
  if (!found) {
    const said = (ran.stderr || ran.error?.message || "nothing").trim().split("\n")[0];
    throw new AgentError(
      `Cannot run ${program(binDir, "postgres")}: --version says: ${said}`,
      "see that PostgreSQL is installed whole and made for this machine",
    );
  }
  if (!supportedMajors.some((major) => major === found.major)) {
    throw new UsageError(
      `Cannot use ${binDir}: PostgreSQL ${found.version} is not one of ${supportedMajors.join(", ")}`,
      "name the folder of a supported version with --pg-bin",
    );
  }
  return { binDir, ...found };
}

/** Finds the programs: in `pgBin` if given, else on the PATH, else in Debian's folders, the newest supported first. */
export function findBinaries(
  pgBin: string | undefined,
  { path = process.env.PATH ?? "", debianRoot = "/usr/lib/postgresql" } = {},
): Binaries {
  if (pgBin !== undefined) return checkBinaries(pgBin);
  const tried: string[] = [];
  for (const folder of [...path.split(delimiter).filter(Boolean), ...debianFolders(debianRoot)]) {
    if (!programs.every((name) => isExecutable(program(folder, name)))) continue;
    try {
      return checkBinaries(folder);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      tried.push(error.message);
    }
  }
  throw new UsageError(
    tried[0] ?? `Cannot find PostgreSQL: neither the PATH nor ${debianRoot} holds postgres, pg_ctl and initdb`,
    "install PostgreSQL 15 to 18, or name the folder of its programs with --pg-bin",
  );
}

function debianFolders(root: string): string[] {
  try {
    return readdirSync(root).filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(b) - Number(a))
      .map((name) => join(root, name, "bin"));
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
    return [];
  }
}
