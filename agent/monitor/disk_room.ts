// How full a node's disks are, in words. Pure: decides from free bytes; whoever looks hands them in.

/** One file system that the node needs. */
export interface DiskSpace {
  /** A folder on it, as people know it. */
  readonly path: string;
  readonly freeBytes: number;
}

export type Room = "enough" | "low" | "full";

export interface DiskRoom {
  readonly room: Room;
  /** The one with the least room; null if none was looked at. */
  readonly tightest: DiskSpace | null;
}

export const unwatched: DiskRoom = { room: "enough", tightest: null };

const mb = 1024 * 1024;
/** So many times the floor is little enough to be told of. */
const lowTimes = 10;
/** A disk that was full has room again only from so many times the floor: else it would be full again at once. */
const againTimes = 2;

/**
 * Full is less than `floorMb`: PostgreSQL needs a few segments of WAL to go on, and to stop, in good order; the agent has
 * to write down what it decides. `floorMb` 0: nothing is ever full.
 */
export function roomOf(spaces: readonly DiskSpace[], floorMb: number, before: Room): DiskRoom {
  if (spaces.length === 0 || floorMb === 0) return unwatched;
  const tightest = spaces.reduce((least, one) => one.freeBytes < least.freeBytes ? one : least);
  const free = tightest.freeBytes / mb;
  const isFull = free < floorMb * (before === "full" ? againTimes : 1);
  return { room: isFull ? "full" : free < floorMb * lowTimes ? "low" : "enough", tightest };
}

/** The alert that a person reads, or null. */
export function roomProblem({ room, tightest }: DiskRoom, floorMb: number): { message: string; remedy: string } | null {
  if (room === "enough" || !tightest) return null;
  // Rounded, so that a disk that fills is not told of anew with each megabyte.
  const left = `${room === "full" ? "" : "about "}${roughly(tightest.freeBytes / mb)} MB`;
  return room === "full"
    ? {
      message:
        `The disk of ${tightest.path} is full: less than ${floorMb} MB are free, so this node is not fit to serve`,
      remedy: `make room: it is used again from ${againTimes * floorMb} MB on ([failover] min_free_mb)`,
    }
    : { message: `The disk of ${tightest.path} has only ${left} left`, remedy: "make room before it is full" };
}

function roughly(value: number): number {
  const step = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, value))));
  return Math.max(1, Math.floor(value / step)) * step;
}
