// What is wrong with the capture of own changes is told, and told to be over once it works again.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Capture } from "../../agent/node/capture.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { ensureTables } from "../../agent/postgres/objects.ts";
import { ensureNode, openGuard } from "../../agent/role/guard.ts";
import { withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

test("a session of the slot that fails is told of, and so is its end", { timeout: 60_000 }, async () => {
  await withServer(18, async (server) => {
    const sql = server.pool();
    await sql`CREATE TABLE t (id int PRIMARY KEY)`;
    await migrate(sql);
    await ensureTables(sql);
    await ensureNode(sql, { node: "a", role: "primary" });
    await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
    const told: (string | null)[] = [];
    const capture = await Capture.start({
      role: "primary",
      sql,
      target: server.target(),
      peerCaptures: () => false,
      onTrouble: (message) => void told.push(message),
    });
    try {
      await capture.ready;
      assert.deepEqual(told, []);
      for (let turn = 1; turn <= 2; turn++) {
        const [{ ended }] = await sql`SELECT count(pg_terminate_backend(active_pid))::int AS ended
          FROM pg_replication_slots WHERE active_pid IS NOT NULL`;
        assert.equal(ended, 1);
        await waitFor(() => told.length === 2 * turn, { what: "trouble and its end", deadlineMs: 20_000 });
        assert.match(told[2 * turn - 2]!, /terminating connection/);
        assert.equal(told[2 * turn - 1], null);
        await server.client()`INSERT INTO t VALUES (${turn})`;
        await waitFor(() => capture.history.pending().transactions === turn, {
          what: "the own transactions to be known",
          deadlineMs: 20_000,
        });
      }
      assert.equal(told.length, 4);
    } finally {
      await capture.stop();
    }
  }, { settings: { wal_level: "logical", track_commit_timestamp: "on" } });
});
