// What is wrong with the capture of own changes is told, and told to be over once it works again; and a slot that is made
// anew meanwhile does not leave it waiting.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { markPrefix, publicationName, slotName } from "../../agent/change/marks.ts";
import { Capture } from "../../agent/node/capture.ts";
import type { Target } from "../../agent/postgres/connect.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { ensureTables } from "../../agent/postgres/objects.ts";
import { ensureNode, openGuard } from "../../agent/role/guard.ts";
import { dropSlot, ensureSlot } from "../../agent/wal/slot.ts";
import { type TestServer, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

/** Readies the server for capture, which is started with this target. */
async function startCapture(server: TestServer, target: Target, told: (string | null)[] = []): Promise<Capture> {
  const sql = server.pool();
  await sql`CREATE TABLE t (id int PRIMARY KEY)`;
  await migrate(sql);
  await ensureTables(sql);
  await ensureNode(sql, { node: "a", role: "primary" });
  await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
  return await Capture.start({
    role: "primary",
    sql,
    target,
    peerCaptures: () => false,
    onTrouble: (message) => void told.push(message),
  });
}

const settings = { wal_level: "logical", track_commit_timestamp: "on" };

test("a session of the slot that fails is told of, and so is its end", { timeout: 60_000 }, async () => {
  await withServer(18, async (server) => {
    const sql = server.pool();
    const told: (string | null)[] = [];
    const capture = await startCapture(server, server.target(), told);
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
  }, { settings });
});

test("a slot made anew, as for a new pack, before capture is ready", { timeout: 60_000 }, async () => {
  await withServer(18, async (server) => {
    const sql = server.pool();
    const nowhere = { ...server.target(), host: "/nowhere" };
    const capture = await startCapture(server, nowhere);
    try {
      // What it waits for has been written, and lies before the new slot.
      await waitFor(
        async () =>
          (await sql`SELECT FROM pg_logical_slot_peek_binary_changes(${slotName}, NULL, NULL, 'proto_version', '1',
          'publication_names', ${publicationName}, 'messages', 'true')
          WHERE position(${Buffer.from(markPrefix)}::bytea IN data) > 0`).length > 0,
        {
          what: "the mark",
          deadlineMs: 20_000,
        },
      );
      await dropSlot(sql, slotName);
      await ensureSlot(sql, slotName);
      nowhere.host = server.target().host;
      let ready = false;
      void capture.ready.then(() => ready = true);
      await waitFor(() => ready, { what: "all to be noted", deadlineMs: 20_000 });
    } finally {
      await capture.stop();
    }
  }, { settings });
});
