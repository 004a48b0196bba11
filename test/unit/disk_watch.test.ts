// The look at the disks with real folders: what is full is an error, what is low a warning, and a tablespace counts too.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, statfsSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { DiskWatch } from "../../agent/node/disk_watch.ts";
import type { Problem } from "../../agent/node/troubles.ts";

function withFolder(run: (folder: string, freeMb: number) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "disk-"));
  for (const name of ["pg_wal", "pg_tblspc", "run"]) mkdirSync(join(folder, name));
  const { bavail, bsize } = statfsSync(folder);
  return run(folder, Number(bavail) * Number(bsize) / 1024 / 1024).finally(() => rmSync(folder, { recursive: true }));
}

/** Whether it is full by one look, and what is told. */
async function lookAt(folder: string, floorMb: number) {
  const told = new Map<string, Problem | null>();
  const watch = new DiskWatch({
    pgdata: folder,
    runDir: join(folder, "run"),
    floorMb: Math.floor(floorMb),
    onTrouble: (name, problem) => void told.set(name, problem),
  });
  return { full: await watch.isFull(), told };
}

test("full is an error, low is a warning, enough is nothing", async () => {
  await withFolder(async (folder, freeMb) => {
    const full = await lookAt(folder, freeMb * 4);
    assert.equal(full.full, true);
    assert.match(full.told.get("disk_full")!.message, /is full: less than \d+ MB/);
    assert.deepEqual([full.told.get("disk_full")!.severity, full.told.get("disk_low")], [undefined, null]);
    const low = await lookAt(folder, freeMb / 4);
    assert.equal(low.full, false);
    assert.deepEqual([low.told.get("disk_full"), low.told.get("disk_low")!.severity], [null, "warning"]);
    const enough = await lookAt(folder, freeMb / 100);
    assert.deepEqual([enough.full, enough.told.get("disk_full"), enough.told.get("disk_low")], [false, null, null]);
  });
});

test("a tablespace on a disk without room counts; one that is gone is for PostgreSQL to tell of", async () => {
  await withFolder(async (folder) => {
    symlinkSync(join(folder, "nowhere"), join(folder, "pg_tblspc", "16001"));
    const gone = await lookAt(folder, 1);
    assert.deepEqual([gone.full, gone.told.get("disk")], [false, null]);
    if (process.platform !== "linux") return;
    symlinkSync("/proc", join(folder, "pg_tblspc", "16002"));
    assert.equal((await lookAt(folder, 1)).full, true);
  });
});

test("what cannot be looked at is told, and is not taken for full", async () => {
  const { full, told } = await lookAt("/nowhere", 64);
  assert.equal(full, false);
  assert.match(told.get("disk")!.message, /^Cannot see how much room the disks have: /);
});
