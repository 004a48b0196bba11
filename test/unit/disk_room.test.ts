// How full the disks are: the floor, what is low, the way back from full, and the words.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Room, roomOf, roomProblem, unwatched } from "../../agent/monitor/disk_room.ts";

const mb = 1024 * 1024;
const disks = (...free: number[]) => free.map((n, index) => ({ path: `/disk${index}`, freeBytes: n * mb }));

const cases: [name: string, free: number[], before: Room, room: Room][] = [
  ["far from it", [10_000], "enough", "enough"],
  ["the tightest counts", [10_000, 63, 500], "enough", "full"],
  ["just at the floor", [64], "enough", "low"],
  ["just below it", [63.9], "low", "full"],
  ["low", [639], "enough", "low"],
  ["not low any more", [640], "low", "enough"],
  ["a little more than the floor, after it was full", [127], "full", "full"],
  ["twice the floor, after it was full", [128], "full", "low"],
  ["nothing at all", [0], "enough", "full"],
];
for (const [name, free, before, room] of cases) {
  test(`room on disks: ${name}`, () => assert.equal(roomOf(disks(...free), 64, before).room, room));
}

test("without a floor, or without a look, nothing is full", () => {
  assert.deepEqual(roomOf(disks(0), 0, "full"), unwatched);
  assert.deepEqual(roomOf([], 64, "full"), unwatched);
});

test("a person is told which disk, and it is not told anew with each megabyte", () => {
  const full = roomProblem(roomOf(disks(900, 20), 64, "enough"), 64);
  assert.match(full!.message, /^The disk of \/disk1 is full: less than 64 MB/);
  assert.match(full!.remedy, /128 MB/);
  const told = (free: number) => roomProblem(roomOf(disks(free), 64, "low"), 64)?.message;
  assert.equal(told(433), "The disk of /disk0 has only about 400 MB left");
  assert.equal(told(433), told(402));
  assert.equal(told(10_000), undefined);
});
