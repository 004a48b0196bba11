// A reseed that is killed once the copy has taken the place of the data: the agent does not run what is half made, and the
// same command again ends it.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { waitEqual } from "../helpers/equality.ts";
import { makePair, waitSteady } from "../helpers/pair.ts";
import { executable } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

scopedTest("a reseed that is killed in the middle is not taken for a secondary", async (scope) => {
  const pair = await makePair(scope, {
    load: async (app) => {
      // Without a key: what is applied twice stands there twice.
      await app.unsafe("CREATE TABLE item (id int, name text)").simple();
    },
  });
  const { primary, secondary } = pair;
  await secondary.stop();

  const child = spawn(executable, ["reseed", "--home", secondary.home], {
    cwd: "/",
    stdio: ["ignore", "pipe", "pipe"],
  });
  const closed = once(child, "close");
  let said = "";
  child.stderr.on("data", (chunk) => said += chunk);
  child.stdout.on("data", (chunk) => {
    said += chunk;
    if (/pack verified and extracted/.test(said)) child.kill("SIGKILL");
  });
  await closed;
  assert.equal(child.signalCode, "SIGKILL", said);
  assert.doesNotMatch(said, /made the secondary/, "it was killed before the end");
  secondary.killPostgres();
  await primary.app(pair.target)`INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 500) i`;

  secondary.start();
  await waitFor(() => !secondary.isRunning, { what: "the agent to end", deadlineMs: 60_000 });
  assert.match(
    secondary.tellLogs(),
    /Cannot run: agent\.toml says secondary, but the database is that of a primary\nTry: run agent setup secondary, or agent reseed, again/,
  );

  await secondary.agent(["reseed"], { timeoutMs: 240_000 });
  secondary.start();
  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser);
}, { timeoutMs: 400_000 });
