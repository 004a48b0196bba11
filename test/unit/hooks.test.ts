// The hook with real scripts in a temporary folder: its arguments, its environment, failures, and scripts that hang.
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { Hooks, type HooksOptions } from "../../agent/node/hooks.ts";
import type { State } from "../../agent/report.ts";
import { waitFor } from "../helpers/wait.ts";

interface Bench {
  readonly dir: string;
  readonly hooks: Hooks;
  readonly troubles: (string | null)[];
  /** The lines that the script has written. */
  lines(): string[];
  tell(state: State): void;
  has(count: number): Promise<unknown>;
}

async function withHook(body: string, run: (bench: Bench) => Promise<void>, options: Partial<HooksOptions> = {}) {
  const dir = mkdtempSync(join(tmpdir(), "hook-"));
  const script = join(dir, "hook");
  const out = join(dir, "out");
  writeFileSync(script, `#!/bin/sh\nout=${out}\n${body}\n`);
  chmodSync(script, 0o755);
  const troubles: (string | null)[] = [];
  const hooks = new Hooks({
    ...{ script, node: "a.example", onTrouble: (_, problem) => void troubles.push(problem?.message ?? null) },
    ...options,
  });
  const lines = () => existsSync(out) ? readFileSync(out, "utf8").trimEnd().split("\n") : [];
  try {
    await run({
      ...{ dir, hooks, troubles, lines },
      tell: (state) => hooks.tell({ role: "secondary", state }),
      has: (count) =>
        waitFor(() => lines().length >= count, { what: `${count} calls`, deadlineMs: 10_000, everyMs: 5 }),
    });
  } finally {
    await hooks.stop();
    rmSync(dir, { recursive: true });
  }
}

test("the script gets action, role, state and node, and nothing of the agent's environment that may be secret", async () => {
  process.env.HOOK_TEST_SECRET = "never";
  await withHook(`env >"$out.env"; echo "$@" >>$out`, async ({ dir, hooks, troubles, lines, tell, has }) => {
    tell("serving");
    await has(1);
    await hooks.stop();
    assert.deepEqual(lines(), ["on_role_change secondary serving a.example"]);
    assert.deepEqual(troubles, [null]);
    assert.doesNotMatch(readFileSync(join(dir, "out.env"), "utf8"), /never/);
  });
  delete process.env.HOOK_TEST_SECRET;
});

test("of states that pass while a script runs only the last is told; two never run at once", async () => {
  const body = `echo "$3 begins" >>$out; while [ ! -e $out.go ]; do sleep 0.01; done; echo "$3 ends" >>$out`;
  await withHook(body, async ({ dir, lines, tell, has }) => {
    tell("serving");
    await has(1);
    tell("handing_back");
    tell("draining");
    tell("standby");
    writeFileSync(join(dir, "out.go"), "");
    await has(4);
    assert.deepEqual(lines(), ["serving begins", "serving ends", "standby begins", "standby ends"]);
  });
});

test("a script that fails is an alarm, and is called again until it succeeds", async () => {
  const body = `echo "$3" >>$out; [ $(wc -l <$out) -ge 3 ] || exit 7`;
  await withHook(body, async ({ troubles, tell }) => {
    tell("serving");
    await waitFor(() => troubles.includes(null), { what: "the hook to succeed", deadlineMs: 10_000, everyMs: 5 });
    assert.deepEqual(troubles.length, 3);
    for (const each of troubles.slice(0, 2)) assert.match(each!, /failed for serving: it ended with 7/);
  }, { retryMs: 5 });
});

test("a script that hangs is killed with what it started, and is an alarm", async () => {
  const body = `sleep 600 & echo $! >>$out; wait`;
  await withHook(body, async ({ hooks, troubles, lines, tell, has }) => {
    tell("serving");
    await has(1);
    await hooks.stop();
    assert.match(troubles[0]!, /had not ended after 300 ms and was killed/);
    const ended = () => {
      try {
        return readFileSync(`/proc/${lines()[0]}/stat`, "utf8").includes(") Z ");
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === "ENOENT";
      }
    };
    if (process.platform === "linux") await waitFor(ended, { what: "the end of its child", deadlineMs: 5000 });
  }, { timeoutMs: 300 });
});

test("a daemon that the script leaves behind is not waited for", async () => {
  await withHook(`sleep 3 & echo $! >>$out`, async ({ hooks, troubles, tell, has }) => {
    tell("serving");
    await has(1);
    const began = performance.now();
    await hooks.stop();
    assert.ok(performance.now() - began < 2500);
    assert.deepEqual(troubles, [null]);
  });
});

test("a script that is not there, or is none, is an alarm; without a script nothing happens", async () => {
  const troubles: (string | null)[] = [];
  const onTrouble: HooksOptions["onTrouble"] = (_, problem) => void troubles.push(problem?.message ?? null);
  const hooks = new Hooks({ script: "/nowhere/hook", node: "a", onTrouble });
  hooks.tell({ role: "primary", state: "serving" });
  await hooks.stop();
  assert.match(troubles[0]!, /\/nowhere\/hook failed for serving: .*ENOENT/);
  const data = new Hooks({ script: "/etc/passwd", node: "a", onTrouble });
  data.tell({ role: "primary", state: "serving" });
  await data.stop();
  assert.match(troubles[1]!, /\/etc\/passwd failed for serving: .*(EACCES|ermission)/);
  const none = new Hooks({ node: "a", onTrouble });
  none.tell({ role: "primary", state: "serving" });
  await none.stop();
  assert.equal(troubles.length, 2);
});
