// Where the files of a pack go: a new folder beside the target, which gets its name only when everything was verified.
// Never deletes data: what is at the target is renamed, and only if that was asked for.
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, rmdirSync } from "node:fs";
import { chown, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { AgentError, reason, RefusedError } from "../errors.ts";
import type { OsUser } from "../postgres/os_user.ts";
import type { EntrySink } from "./entries.ts";
import { syncFolder } from "./zip_writer.ts";

/** Refuses a target that holds something, unless it may be put aside. */
export function checkTarget(pgdata: string, replace: boolean): void {
  if (replace || !existsSync(pgdata)) return;
  let count: number;
  try {
    count = readdirSync(pgdata).length;
  } catch (cause) {
    throw new RefusedError(`Cannot use ${pgdata}: ${reason(cause)}`, "name another folder with --pgdata", { cause });
  }
  if (count > 0) {
    throw new RefusedError(
      `Cannot use ${pgdata}: it is not empty`,
      "name another folder with --pgdata, or add --replace, which renames the present one and keeps it",
    );
  }
}

export interface Incoming {
  readonly path: string;
  readonly sink: EntrySink;
  /** Gives the folder its name; returns where the former content was put aside, or null. */
  place(replace: boolean, now?: Date): Promise<string | null>;
  discard(): Promise<void>;
}

/** Makes `<pgdata>.incoming-XXXX`, owned by `user`. */
export async function makeIncoming(pgdata: string, user: OsUser | null): Promise<Incoming> {
  const path = `${pgdata}.incoming-${randomBytes(4).toString("hex")}`;
  const folders = new Set<string>();
  const makeFolder = async (folder: string) => {
    if (folders.has(folder)) return;
    if (folder !== path) await makeFolder(dirname(folder));
    await mkdir(folder, { mode: 0o700 });
    if (user) await chown(folder, user.uid, user.gid);
    folders.add(folder);
  };
  try {
    await mkdir(dirname(path), { recursive: true });
    await makeFolder(path);
  } catch (cause) {
    throw new AgentError(`Cannot make ${path}: ${reason(cause)}`, "name a folder that can be written with --pgdata", {
      cause,
    });
  }
  return {
    path,
    sink: {
      folder: (name) => makeFolder(join(path, name)),
      async file(name) {
        await makeFolder(dirname(join(path, name)));
        const file = await open(join(path, name), "wx", 0o600);
        if (user) await file.chown(user.uid, user.gid);
        // Not synced here: PostgreSQL syncs the whole folder itself before it recovers from a base backup.
        return { write: (chunk) => file.writeFile(chunk), close: () => file.close() };
      },
    },
    place: (replace, now = new Date()) => place(path, pgdata, replace, now),
    discard: () => rm(path, { recursive: true, force: true }),
  };
}

async function place(path: string, pgdata: string, replace: boolean, now: Date): Promise<string | null> {
  checkTarget(pgdata, replace);
  let aside: string | null = null;
  try {
    if (existsSync(pgdata)) {
      if (readdirSync(pgdata).length === 0) rmdirSync(pgdata);
      else {
        aside = `${pgdata}.before-${now.toISOString().replace(/[-:]/g, "").replace(/\..*/, "Z")}`;
        if (existsSync(aside)) aside += `-${randomBytes(2).toString("hex")}`;
        await rename(pgdata, aside);
      }
    }
    await rename(path, pgdata);
    syncFolder(dirname(pgdata));
    return aside;
  } catch (cause) {
    if (aside && !existsSync(pgdata)) await rename(aside, pgdata);
    throw new AgentError(
      `Cannot give ${relative(dirname(pgdata), path)} the name ${pgdata}: ${reason(cause)}`,
      "choose a folder below a mount point rather than the mount point itself",
      { cause },
    );
  }
}
