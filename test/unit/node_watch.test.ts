// What a node does again and again, one turn at a time; and the alarm for rules that are not the same on both nodes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { UnreachableError } from "../../agent/errors.ts";
import { configHash, policiesDiffer } from "../../agent/node/policies.ts";
import { Watch } from "../../agent/node/watch.ts";
import { parseConfig } from "../../agent/config.ts";
import { waitFor } from "../helpers/wait.ts";

test("turns follow upon each other; wishes during one are one more; a failure is told and does not end it", async () => {
  const told: string[] = [];
  let turns = 0;
  let running = 0;
  const failures = [new Error("broken"), new UnreachableError("away", "wait"), null, null];
  const watch = new Watch({
    everyMs: 5,
    work: async () => {
      assert.equal(running++, 0, "never twice at once");
      if (turns === 0) { for (let wish = 0; wish < 3; wish++) watch.wake(); }
      await new Promise((resolve) => setTimeout(resolve, 1));
      running--;
      const failure = failures[turns++];
      if (failure) throw failure;
    },
    ended: (failure) => told.push(failure instanceof Error ? failure.message : "well"),
  });
  watch.start();
  await waitFor(() => turns >= 4, { deadlineMs: 3000, what: "four turns" });
  await watch.stop();
  const after = turns;
  assert.deepEqual(told.slice(0, 2), ["broken", "well"], "a database that is away is told of elsewhere");
  watch.wake();
  assert.equal(turns, after, "none after the end");
});

test("a wish is fulfilled at once, long before the next turn is due", async () => {
  let turns = 0;
  const watch = new Watch({ everyMs: 3_600_000, work: () => Promise.resolve(void turns++), ended: () => {} });
  watch.start();
  await waitFor(() => turns === 1, { deadlineMs: 3000, what: "the first turn" });
  watch.wake();
  await waitFor(() => turns === 2, { deadlineMs: 3000, what: "the turn that was wished for" });
  await watch.stop();
});

test("rules that differ are an alarm that names both nodes; the same rules are none", () => {
  const config = (more: string) =>
    parseConfig(
      `[node]\nname = "a.example"\nrole = "primary"\n[peer]\nname = "b"\naddress = "b:1"\n[postgres]\npgdata = "/d"\n${more}`,
      "agent.toml",
    );
  const one = config('[[table]]\nmatch = "a.*"\npolicy = "primary_wins"\n');
  assert.equal(policiesDiffer(one, { name: "b.example", config_hash: configHash(one) }), null);
  const found = policiesDiffer(one, { name: "b.example", config_hash: configHash(config("")) });
  assert.match(found?.message ?? "", /a\.example.*b\.example.*\[merge\].*\[\[table\]\].*\[\[primary_only\]\]/);
  assert.match(found?.remedy ?? "", /restart/);
});
