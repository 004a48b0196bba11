// A row that the application is writing while the applier asks for it: what the applier gets behind the lock is who wrote
// the row as it is then, not who wrote it before. Else it would overwrite what nobody has seen.
import assert from "node:assert/strict";
import { test } from "node:test";
import { findBlockers } from "../../agent/apply/blockers.ts";
import { selectManyForUpdate } from "../../agent/apply/row_sets.ts";
import { lockRow, type RowHere, rowHere, type RowShape } from "../../agent/apply/rows.ts";
import { readUniqueRules } from "../../agent/postgres/constraints.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { microsecondsOf } from "../../agent/postgres/times.ts";
import { applierSession, readShape } from "../helpers/applier_session.ts";
import { versions, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

const lookups: Record<string, (sql: Sql, shape: RowShape, origin: string) => Promise<RowHere | null>> = {
  "by its key": (sql, shape, origin) => lockRow(sql, shape, { id: "1" }, origin),
  "among others": async (sql, shape, origin) => {
    const keys = JSON.stringify([{ key: { id: "2" } }, { key: { id: "1" } }]);
    const rows = await sql.unsafe(selectManyForUpdate(shape), [keys]);
    return rowHere(shape, rows.find(({ n }) => n === 2)!, origin);
  },
  "as what stands in the way": async (sql, shape, origin) => {
    const rules = await readUniqueRules(sql, "public", "t");
    const image = { id: "3", code: "11", v: "incoming" };
    return (await findBlockers(sql, shape, rules.filter(({ primary }) => !primary), image, origin))[0].row;
  },
};

for (const version of versions) {
  for (const [how, lookUp] of Object.entries(lookups)) {
    test(`a row locked behind its writer, ${how} (PostgreSQL ${version})`, { timeout: 60_000 }, async () => {
      await withServer(version, async (server) => {
        const sql = await applierSession(server, "CREATE TABLE t (id int PRIMARY KEY, code int UNIQUE, v text)");
        const [{ origin }] = await sql`SELECT pg_replication_origin_create('ha_peer')::text AS origin`;
        await sql`SELECT pg_replication_origin_session_setup('ha_peer')`;
        await sql`INSERT INTO t VALUES (1, 11, 'the peer''s'), (2, 12, 'the peer''s')`;
        const shape = await readShape(sql, "t");
        assert.equal((await lookUp(sql, shape, origin))?.own, false);

        const app = await server.pool().reserve();
        try {
          await app`BEGIN`;
          await app`UPDATE t SET v = 'own' WHERE id = 1`;
          const [{ xid }] = await app`SELECT xmin::text AS xid FROM t WHERE id = 1`;
          const looking = lookUp(sql, shape, origin);
          await waitFor(
            async () => (await app`SELECT FROM pg_locks WHERE NOT granted`).length > 0,
            { what: "the applier to wait for the row", deadlineMs: 20_000 },
          );
          await app`COMMIT`;
          const here = await looking;
          assert.equal(here?.image.v, "own");
          assert.equal(String(here?.writer.xid), xid);
          assert.equal(here?.own, true, "the application wrote it");
          const committed = microsecondsOf("pg_xact_commit_timestamp($1::text::xid)");
          const [{ time }] = await app.unsafe(`SELECT ${committed} AS time`, [xid]);
          assert.equal(String(here?.writer.commitTime), time);
        } finally {
          app.release();
        }
      });
    });
  }
}
