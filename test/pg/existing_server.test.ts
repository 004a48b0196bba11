// setup on a server that somebody else runs: started if it is down, restarted for its settings only if that is allowed and
// it is known how, and what its commands say when they fail.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readConfig } from "../../agent/config.ts";
import { homeAt } from "../../agent/home.ts";
import { ensureStarted, ensureStopped } from "../../agent/postgres/commands.ts";
import { setupPrimary } from "../../agent/setup/primary.ts";
import { Steps } from "../../agent/setup/steps.ts";
import { makeDebianServer } from "../helpers/debian_server.ts";
import { scopedTest } from "../helpers/scope.ts";
import { versions } from "../helpers/servers.ts";

const names = { primary: "127.0.0.1:18281", secondary: "127.0.0.1:18282" };

for (const version of versions) {
  scopedTest(
    `PostgreSQL ${version}: settings that are missing, a server that is down, commands that fail`,
    async (scope) => {
      const server = await makeDebianServer(scope, {
        version,
        name: "db1",
        listen: "127.0.0.1",
        settings: { max_wal_senders: "2" },
      });
      const key = join(scope.dir, "key");
      writeFileSync(key, randomBytes(48), { mode: 0o600 });
      const home = homeAt(join(scope.dir, "home"));
      const database = server.url("postgres");
      const { startCommand, stopCommand } = server;
      const setup = (options: object) => setupPrimary(home, names, { database, key, ...options }, new Steps());

      // Down, and nobody says how it is started.
      await assert.rejects(setup({}), { exitCode: 4 });
      // Started, but it lacks settings; nothing is changed.
      await assert.rejects(setup({ startCommand }), /wal_level is replica, needed is logical; .*max_wal_senders is 2/);
      const first = server.pid;
      assert.ok(first !== undefined);
      await assert.rejects(setup({ restart: true }), /Cannot restart this server: it is not known how/);
      assert.equal(server.pid, first);
      assert.equal(existsSync(home.configFile), false);

      await setup({ startCommand, stopCommand, restart: true });
      const second = server.pid;
      assert.ok(second !== undefined && second !== first, "restarted once");
      const { postgres } = readConfig(home.configFile);
      assert.deepEqual(
        [postgres.url, postgres.pgdata, postgres.start_command, postgres.stop_command],
        [database, undefined, startCommand, stopCommand],
      );
      // Again, with nothing said: agent.toml knows, and no restart is needed.
      await setupPrimary(home, names, { restart: true }, new Steps());
      assert.equal(server.pid, second);
      assert.equal(readConfig(home.configFile).postgres.start_command, startCommand);

      const logFile = join(scope.dir, "command.log");
      const commanded = { target: server.target("postgres"), startCommand, stopCommand, logFile };
      assert.equal(await ensureStarted({ ...commanded, startCommand: "exit 9" }), false, "not called while it runs");
      await ensureStopped(commanded);
      assert.equal(server.pid, undefined);
      await ensureStopped({ ...commanded, stopCommand: "exit 9" }); // not called while it is down
      await assert.rejects(
        ensureStarted({ ...commanded, startCommand: "echo no such unit >&2; exit 5" }),
        /Cannot run start_command: it ended with 5: no such unit/,
      );
      await assert.rejects(ensureStarted({ ...commanded, startCommand: undefined }), /there is no start_command/);
      assert.equal(await ensureStarted(commanded), true);
      await assert.rejects(
        ensureStarted({ ...commanded, target: server.target("nowhere") }),
        /Cannot use database nowhere/,
      );
    },
    { timeoutMs: 240_000 },
  );
}
