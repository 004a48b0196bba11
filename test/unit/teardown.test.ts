// A node is taken down to the end: in reverse, past a part that hangs and one that fails, once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Teardown } from "../../agent/node/teardown.ts";

test("parts end in the reverse order; one that hangs or fails does not keep the others", async () => {
  const ended: string[] = [];
  const down = new Teardown();
  let release = () => {};
  down.add("first", () => ended.push("first"), null);
  down.add("failing", () => {
    ended.push("failing");
    return Promise.reject(new Error("cannot"));
  });
  down.add("throwing", () => {
    ended.push("throwing");
    throw new Error("at once");
  });
  down.add("hanging", () => {
    ended.push("hanging");
    return new Promise<void>((resolve) => release = resolve);
  }, 20);
  down.add("last", () => Promise.resolve().then(() => ended.push("last")));
  await down.run();
  assert.deepEqual(ended, ["last", "hanging", "throwing", "failing", "first"]);
  await down.run();
  assert.equal(ended.length, 5, "once");
  release();
});

test("what may take its time is waited for", async () => {
  const down = new Teardown();
  let over = false;
  let release = () => {};
  down.add("slow", () => new Promise<void>((resolve) => release = resolve).then(() => void (over = true)), null);
  const done = down.run();
  await Promise.resolve();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(over, false);
  release();
  await done;
  assert.equal(over, true);
});
