// Whether a guard is closed to the end counts only where that was seen, and not once it may be open.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Gate } from "../../agent/node/gate.ts";

test("a gate is shut by a close that succeeded, until it is unlocked", async () => {
  const gate = new Gate();
  assert.equal(gate.isShut, false, "an earlier agent may have left it in any way");
  await assert.rejects(gate.shut(Promise.reject(new Error("no answer"))), /no answer/);
  assert.equal(gate.isShut, false);
  let end = (_lsn: bigint) => {};
  const closing = gate.shut(new Promise<bigint>((resolve) => end = resolve));
  assert.equal(gate.isShut, false, "not before it is done");
  end(5n);
  assert.equal(await closing, 5n);
  assert.equal(gate.isShut, true);
  gate.unlock();
  assert.equal(gate.isShut, false);
});
