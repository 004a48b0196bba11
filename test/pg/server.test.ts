// The life of a cluster that the agent runs: start, adopt, crash, stale postmaster.pid, port taken, stop.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { UsageError } from "../../agent/errors.ts";
import { isPostgres, readStatus } from "../../agent/postgres/postmaster.ts";
import {
  configure,
  initCluster,
  PortTakenError,
  readSetting,
  startCluster,
  stopCluster,
  waitExit,
} from "../../agent/postgres/server.ts";
import { versions, withServer } from "../helpers/servers.ts";

for (const version of versions) {
  test(`PostgreSQL ${version}: started, adopted, crashed, started again, stopped`, { timeout: 60_000 }, async () => {
    await withServer(version, async ({ cluster, pool }) => {
      assert.equal(readStatus(cluster.pgdata).running, false);
      const started = await startCluster(cluster);
      assert.equal(started.adopted, false);
      assert.equal(started.port, cluster.port);
      assert.equal(started.socketDir, cluster.socketDir);

      const again = await startCluster(cluster);
      assert.deepEqual([again.adopted, again.pid], [true, started.pid]);

      const [row] = await pool()`SELECT current_setting('wal_level') AS wal, current_setting('data_checksums') AS sums,
        current_setting('track_commit_timestamp') AS track, current_setting('server_encoding') AS encoding`;
      assert.deepEqual({ ...row }, { wal: "logical", sums: "on", track: "on", encoding: "UTF8" });

      const ended = waitExit(started.pid, { pollMs: 20 });
      process.kill(started.pid, "SIGKILL");
      await ended;
      assert.deepEqual(readStatus(cluster.pgdata), { running: false, stalePid: started.pid });

      const anew = await startCluster(cluster);
      assert.equal(anew.adopted, false);
      await stopCluster(cluster);
      assert.equal(isPostgres(anew.pid), false);
      await stopCluster(cluster);
    }, { start: false });
  });
}

const version = versions[versions.length - 1];

test(
  "a postmaster.pid whose process id another program has now does not stop the start",
  { timeout: 60_000 },
  async () => {
    await withServer(version, async ({ cluster }) => {
      writeFileSync(join(cluster.pgdata, "postmaster.pid"), `${process.pid}\n${cluster.pgdata}\n0\n${cluster.port}\n`);
      assert.deepEqual(readStatus(cluster.pgdata), { running: false, stalePid: process.pid });
      assert.equal((await startCluster(cluster)).adopted, false);
    }, { start: false });
  },
);

test("a taken port is an error of its own", { timeout: 60_000 }, async () => {
  await withServer(version, async ({ cluster }) => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(cluster.port, "127.0.0.1", resolve));
    try {
      await assert.rejects(startCluster(cluster), (error) => {
        assert.ok(error instanceof PortTakenError, String(error));
        assert.equal(error.message, `Cannot start PostgreSQL: port ${cluster.port} is taken by another program`);
        return true;
      });
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
    await startCluster(cluster);
  }, { start: false });
});

test("a start that fails quotes the log", { timeout: 60_000 }, async () => {
  await withServer(version, async ({ cluster }) => {
    writeFileSync(join(cluster.pgdata, "hapair.conf"), "listen_addresses = ''\nshared_buffers = '16 parsecs'\n");
    await assert.rejects(startCluster(cluster), /Cannot start PostgreSQL in .*: its log ends: .*shared_buffers/);
  }, { start: false });
});

test("configure keeps higher values, is idempotent, and minds postgresql.auto.conf", { timeout: 60_000 }, async () => {
  await withServer(version, async ({ cluster }) => {
    const main = join(cluster.pgdata, "postgresql.conf");
    writeFileSync(join(cluster.pgdata, "hapair.conf"), "");
    writeFileSync(main, `max_wal_senders = 33\nmax_replication_slots = 2\n${readFileSync(main, "utf8")}`);
    await configure(cluster);
    assert.equal(await readSetting(cluster, "max_wal_senders"), "33");
    assert.equal(await readSetting(cluster, "max_replication_slots"), "10");
    const files = [main, join(cluster.pgdata, "pg_hba.conf"), join(cluster.pgdata, "hapair.conf")];
    const before = files.map((file) => readFileSync(file, "utf8"));
    await configure(cluster);
    assert.deepEqual(files.map((file) => readFileSync(file, "utf8")), before);
    writeFileSync(join(cluster.pgdata, "postgresql.auto.conf"), "wal_level = 'replica'\n");
    await assert.rejects(configure(cluster), /postgresql.auto.conf overrides wal_level/);
  }, { start: false });
});

test("initCluster refuses a folder that holds a cluster", { timeout: 60_000 }, async () => {
  await withServer(version, async ({ cluster }) => {
    await assert.rejects(initCluster(cluster), UsageError);
  }, { start: false });
});
