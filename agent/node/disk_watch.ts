// Looks how much room is left where the node has to write: its cluster's folder, WAL, tablespaces, and its own home.
// Reads figures of file systems only. A server that somebody else runs is not looked at: its disks may be elsewhere.
import { readdir, realpath, statfs } from "node:fs/promises";
import { join } from "node:path";
import { reason } from "../errors.ts";
import { type DiskRoom, type DiskSpace, roomOf, roomProblem, unwatched } from "../monitor/disk_room.ts";
import { errorCode } from "../postgres/connect.ts";
import type { Troubles } from "./troubles.ts";

export interface DiskWatchOptions {
  /** null: a server that somebody else runs. */
  readonly pgdata: string | null;
  readonly runDir: string;
  readonly floorMb: number;
  readonly onTrouble: Troubles["set"];
}

export class DiskWatch {
  #known: DiskRoom = unwatched;

  constructor(private readonly options: DiskWatchOptions) {}

  /** One look; true if a disk is full. A look that fails is told of and changes nothing. */
  async isFull(): Promise<boolean> {
    const { pgdata, runDir, floorMb, onTrouble } = this.options;
    if (floorMb === 0 || pgdata === null) return false;
    try {
      const folders = [pgdata, join(pgdata, "pg_wal"), ...await tablespaces(pgdata), runDir];
      this.#known = roomOf(await Promise.all(folders.map(spaceOf)), floorMb, this.#known.room);
      onTrouble("disk", null);
    } catch (error) {
      const message = `Cannot see how much room the disks have: ${reason(error)}`;
      onTrouble("disk", { message, remedy: `see that ${pgdata} can be read by the agent` });
    }
    const { room } = this.#known;
    const problem = roomProblem(this.#known, floorMb);
    onTrouble("disk_full", room === "full" ? problem : null);
    onTrouble("disk_low", room === "low" && problem ? { ...problem, severity: "warning" } : null);
    return room === "full";
  }
}

async function spaceOf(path: string): Promise<DiskSpace> {
  const { bavail, bsize } = await statfs(path);
  return { path, freeBytes: Number(bavail) * Number(bsize) };
}

/** The folders that CREATE TABLESPACE was given; one that is gone is for PostgreSQL to complain of. */
async function tablespaces(pgdata: string): Promise<string[]> {
  const links = await readdir(join(pgdata, "pg_tblspc"));
  const found = await Promise.all(links.map(async (link) => {
    try {
      return await realpath(join(pgdata, "pg_tblspc", link));
    } catch (error) {
      if (errorCode(error) === "ENOENT") return null;
      throw error;
    }
  }));
  return found.filter((path) => path !== null);
}
