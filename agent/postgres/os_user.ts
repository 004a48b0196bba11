// Which user of the operating system PostgreSQL runs as, and running programs as that user.
// PostgreSQL refuses root, so a root agent must lend it another user; an ordinary one runs it as itself (null).
import { chmodSync, chownSync, lchownSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import process from "node:process";
import { AgentError, reason, UsageError } from "../errors.ts";

export interface OsUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

function askId(args: string[]): string | undefined {
  const ran = spawnSync("id", args, { encoding: "utf8", cwd: "/" });
  return ran.status === 0 ? ran.stdout.trim() : undefined;
}

/** The user of that name (or number); undefined if the system knows none. */
export function findUser(nameOrUid: string): OsUser | undefined {
  const uid = askId(["-u", nameOrUid]);
  const gid = askId(["-g", nameOrUid]);
  if (uid === undefined || gid === undefined) return undefined;
  return { name: askId(["-un", nameOrUid]) ?? nameOrUid, uid: Number(uid), gid: Number(gid) };
}

/** The owner of an existing path; undefined where nothing is there. */
function ownerOf(path: string): { uid: number; gid: number } | undefined {
  try {
    const { uid, gid } = statSync(path);
    return { uid, gid };
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOENT") throw error;
    return undefined;
  }
}

/** Whom PostgreSQL runs as: null = the agent's own user. Throws UsageError where that cannot be. */
export function chooseUser({ pgdata, configured }: { pgdata: string; configured?: string }): OsUser | null {
  if (process.getuid === undefined) return null; // Windows: pg_ctl drops the rights itself
  const own = process.getuid();
  if (own !== 0) {
    if (configured === undefined || findUser(configured)?.uid === own) return null;
    throw new UsageError(
      `Cannot run PostgreSQL as ${configured}: the agent itself does not run as root`,
      `start the agent as ${configured} or as root`,
    );
  }
  if (configured !== undefined) {
    const user = findUser(configured);
    if (user && user.uid !== 0) return user;
    throw new UsageError(
      `Cannot run PostgreSQL as ${configured}: ${user ? "it is root" : "there is no such user"}`,
      "name an unprivileged user of this machine as os_user in agent.toml",
    );
  }
  // An empty folder that root has made says nothing about who is meant to own the cluster.
  const owner = ownerOf(join(pgdata, "PG_VERSION")) ?? ownerOf(pgdata);
  if (owner && owner.uid !== 0) {
    return { name: askId(["-un", String(owner.uid)]) ?? String(owner.uid), ...owner };
  }
  for (const name of ["postgres", "nobody"]) {
    const user = findUser(name);
    if (user) return user;
  }
  throw new AgentError(
    "Cannot run PostgreSQL: the agent runs as root and there is neither a user postgres nor nobody",
    "create a user postgres, or name one as os_user in agent.toml",
  );
}

/** Makes a folder (parents too) that only `user` can enter; one that is there gets owner and mode set right. */
export function ensurePrivateDir(path: string, user: OsUser | null): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  if (user) chownSync(path, user.uid, user.gid);
  chmodSync(path, 0o700);
}

/** Gives a whole tree to `user`. Does nothing for null. Symbolic links are not followed. */
export function chownTree(path: string, user: OsUser | null): void {
  if (!user) return;
  lchownSync(path, user.uid, user.gid);
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const below = join(path, entry.name);
    if (entry.isDirectory()) chownTree(below, user);
    else lchownSync(below, user.uid, user.gid);
  }
}

/** The environment for PostgreSQL's programs: PG* variables of whoever started the agent must not steer them. */
function cleanEnvironment(): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (!name.startsWith("PG") && !name.startsWith("LC_") && value !== undefined) kept[name] = value;
  }
  return { ...kept, LC_ALL: "C" };
}

export interface Ran {
  readonly status: number | null;
  readonly output: string;
}

/** Runs a program to its end as `user`, in "/" because the agent's folder may be closed to that user. */
export function runAs(user: OsUser | null, command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: process.platform === "win32" ? undefined : "/",
      env: cleanEnvironment(),
      stdio: ["ignore", "pipe", "pipe"],
      ...(user ? { uid: user.uid, gid: user.gid } : {}),
    });
    let output = "";
    child.stdout.on("data", (chunk) => output += String(chunk));
    child.stderr.on("data", (chunk) => output += String(chunk));
    child.on("error", (error) => {
      reject(
        new AgentError(
          `Cannot run ${command}${user ? ` as ${user.name}` : ""}: ${reason(error)}`,
          "see that the program is there and that this user may execute it",
          { cause: error },
        ),
      );
    });
    child.on("close", (status) => resolve({ status, output }));
  });
}

function canEnter(user: OsUser, path: string): boolean {
  const ran = spawnSync("/bin/sh", ["-c", 'test -r "$1" && test -x "$1"', "sh", path], {
    cwd: "/",
    uid: user.uid,
    gid: user.gid,
  });
  return ran.status === 0;
}

function canPass(user: OsUser, folder: string): boolean {
  return spawnSync("/bin/sh", ["-c", 'test -x "$1"', "sh", folder], { cwd: "/", uid: user.uid, gid: user.gid })
    .status === 0;
}

/** Checks that `user` can read and enter an existing folder. Throws AgentError that names the first closed folder. */
export function checkReach(user: OsUser | null, path: string, what: string): void {
  if (!user || canEnter(user, path)) return;
  const above: string[] = [];
  for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) above.unshift(folder);
  const closed = above.find((folder) => !canPass(user, folder)) ?? path;
  throw new AgentError(
    `Cannot run PostgreSQL as ${user.name}: it may not enter ${closed}, where ${what} lies`,
    `choose a place that ${user.name} can reach (e.g. below /var/lib), or: chmod o+x ${closed}`,
  );
}
