// The persistent slot: made once, found again, held up by an open transaction that is then named, dropped while in use.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseLsn } from "../../agent/change/lsn.ts";
import type { AgentError } from "../../agent/errors.ts";
import { startSession } from "../../agent/wal/session.ts";
import { dropSlot, ensureSlot } from "../../agent/wal/slot.ts";
import { versions, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

for (const version of versions) {
  test(`PostgreSQL ${version}: a slot is made, found, dropped`, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql`create table t (id int)`;
      const made = await ensureSlot(sql, "ha_relay");
      await sql`insert into t values (1)`;
      assert.equal(await ensureSlot(sql, "ha_relay"), made);
      assert.ok(made > parseLsn("0/0"));
      await dropSlot(sql, "ha_relay");
      await dropSlot(sql, "ha_relay");

      const writer = await client({ max: 1 }).reserve();
      await writer`begin`;
      await writer`insert into t values (2)`;
      await assert.rejects(ensureSlot(sql, "ha_relay", { timeoutMs: 500 }), (error: AgentError) => {
        assert.match(
          error.message,
          /^Cannot make replication slot ha_relay: a transaction of postgres in database postgres/,
        );
        assert.match(error.remedy, /pg_terminate_backend\(\d+\)/);
        return true;
      });
      const [{ slots }] = await sql`select count(*)::int as slots from pg_replication_slots`;
      assert.equal(slots, 0);
      await writer`commit`;
      writer.release();
      await ensureSlot(sql, "ha_relay");
      const [{ timeout }] = await sql`select count(*)::int as timeout from pg_settings
        where name = 'statement_timeout' and setting <> '0'`;
      assert.equal(timeout, 0);
    });
  });
}

test("a slot that is being read is dropped all the same", async () => {
  await withServer(versions[0], async ({ pool, target }) => {
    const sql = pool();
    await sql`create publication ha_changes for all tables`;
    const from = await ensureSlot(sql, "ha_relay");
    const session = await startSession(target(), "ha_relay", from, () => {});
    await dropSlot(sql, "ha_relay");
    const [{ slots }] = await sql`select count(*)::int as slots from pg_replication_slots`;
    assert.equal(slots, 0);
    await session.close();
  });
});

test("a paused session stops reading at once: what comes meanwhile is handed over in large pieces", async () => {
  await withServer(versions[0], async ({ pool, client, target }) => {
    const sql = pool();
    await sql`create table t (id int)`;
    await sql`create publication ha_changes for all tables`;
    const from = await ensureSlot(sql, "ha_relay");
    const chunks: number[] = [];
    const session = await startSession(target(), "ha_relay", from, (chunk) => void chunks.push(chunk.length));
    session.pause();
    const writer = await client({ max: 1 }).reserve();
    // Fewer than fill the socket. The walsender sends each by itself, as there is none to send with it yet.
    const transactions = 40;
    for (let i = 0; i < transactions; i++) await writer`insert into t values (${i})`;
    const [{ written }] = await sql<{ written: string }[]>`select pg_current_wal_insert_lsn()::text as written`;
    await waitFor(async () => {
      const [{ sent }] = await sql`select sent_lsn >= ${written}::pg_lsn as sent from pg_stat_replication`;
      return sent;
    }, { what: "all to be sent", deadlineMs: 10_000 });
    writer.release();
    chunks.length = 0;
    session.resume();
    const sum = () => chunks.reduce((all, one) => all + one, 0);
    // BEGIN, INSERT and COMMIT take over 100 bytes.
    await waitFor(() => sum() > transactions * 100, { what: "all to be read", deadlineMs: 10_000 });
    assert.ok(chunks.length < transactions / 4, `${chunks.length} pieces`);
    await session.close();
  });
});
