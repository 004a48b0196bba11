// A disk of a node that a test can fill and clear at once, whoever runs it and however large the machine's disks are:
// a tablespace behind a symbolic link, which leads to an empty folder, or to a file system that has no free block.
// Nothing is ever stored in it, and it is filled only while PostgreSQL runs.
import { chownSync, mkdirSync, rmSync, statfsSync, statSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import type { PairNode } from "./pair_node.ts";
import type { Scope } from "./scope.ts";

/** The kernel's own; what cannot be written to has no room. */
const noRoom = "/proc";

export interface SmallDisk {
  fill(): void;
  clear(): void;
}

export async function openSmallDisk(scope: Scope, node: PairNode): Promise<SmallDisk> {
  const { bavail } = statfsSync(noRoom);
  if (Number(bavail) !== 0) throw new Error(`${noRoom} was to have no free block, but has ${bavail}`);
  const folder = join(dirname(node.pgdata), `${node.role}-disk`);
  const path = `${folder}-link`;
  mkdirSync(folder);
  const { uid, gid } = statSync(node.pgdata);
  chownSync(folder, uid, gid);
  const leadTo = (target: string) => {
    rmSync(path, { force: true });
    symlinkSync(target, path);
  };
  leadTo(folder);
  await node.superuser.unsafe(`CREATE TABLESPACE small LOCATION '${path}'`);
  const disk = { fill: () => leadTo(noRoom), clear: () => leadTo(folder) };
  // A server that is started anew would miss it.
  scope.defer("the small disk", () => disk.clear());
  return disk;
}
