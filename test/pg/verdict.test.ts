// The primary's verdict carried out on a real table: the row is found by what the primary names it by.
import assert from "node:assert/strict";
import { test } from "node:test";
import { shapeOf } from "../../agent/apply/relations.ts";
import type { VerdictMessage } from "../../agent/apply/conflict_log.ts";
import { Outcomes } from "../../agent/apply/outcomes.ts";
import { applyVerdicts } from "../../agent/apply/verdicts.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { readUniqueRules } from "../../agent/postgres/constraints.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { readRelation } from "../../agent/postgres/catalog.ts";
import { versions, withServer } from "../helpers/servers.ts";

/** Carries out verdicts in a transaction of their own, at a secondary without changes of its own. */
async function give(sql: Sql, ...verdicts: Pick<VerdictMessage, "key" | "row">[]): Promise<void> {
  const outcomes = new Outcomes({ sql, role: "secondary", own: () => null, onConflict: () => {} });
  const shape = shapeOf((await readRelation(sql, "public", "t"))!);
  const messages = verdicts.map((v) => ({
    schema: "public",
    table: "t",
    name: JSON.stringify(v.key),
    renews: false,
    ...v,
  }));
  await sql.unsafe("BEGIN");
  await applyVerdicts(
    {
      sql,
      own: () => null,
      peerOrigin: () => "1",
      outcomes,
      shapeOf: () => Promise.resolve(shape),
      rulesOf: ({ schema, table }) => readUniqueRules(sql, schema, table),
    },
    messages,
    0n,
  );
  await outcomes.flush(true);
  await sql.unsafe("COMMIT");
}

const table = "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, v text)";
const rowsOf = async (sql: Sql) => (await sql`SELECT id, code, v FROM t ORDER BY id`).map((row) => ({ ...row }));

test("a verdict finds its row by the replica identity, be it the primary key or another index", async () => {
  await withServer(versions[0], async (server) => {
    const sql = server.pool({ max: 1 });
    await sql.unsafe(table);
    await sql.unsafe("INSERT INTO t VALUES (1, 'a', 'old'), (2, 'b', 'old')");
    await give(
      sql,
      { key: { code: "a" }, row: { id: "1", code: "a", v: "by code" } },
      { key: { id: "2" }, row: { id: "2", code: "c", v: "by id" } },
      { key: { code: "new" }, row: { id: "3", code: "new", v: "made" } },
    );
    assert.deepEqual(await rowsOf(sql), [
      { id: 1, code: "a", v: "by code" },
      { id: 2, code: "c", v: "by id" },
      { id: 3, code: "new", v: "made" },
    ]);
    await give(sql, { key: { code: "a" }, row: null });
    assert.equal((await sql`SELECT FROM t WHERE id = 1`).length, 0);
  });
});

test("verdicts make room for each other, and one that the table refuses is logged while the others stand", async () => {
  await withServer(versions[0], async (server) => {
    const sql = server.pool({ max: 1 });
    await sql.unsafe(`${table}; INSERT INTO t VALUES (1, 'a', 'old'), (2, 'b', 'old'), (3, 'c', 'old')`);
    await migrate(sql);
    // 4 needs what 2 gives up, 2 needs what 1 gives up: none of them in the order in which they come.
    await give(
      sql,
      { key: { id: "4" }, row: { id: "4", code: "b", v: "new" } },
      { key: { id: "2" }, row: { id: "2", code: "a", v: "new" } },
      { key: { id: "5" }, row: { id: "5", code: "c", v: "refused" } },
      { key: { id: "1" }, row: null },
    );
    assert.deepEqual(await rowsOf(sql), [
      { id: 2, code: "a", v: "new" },
      { id: 3, code: "c", v: "old" },
      { id: 4, code: "b", v: "new" },
    ]);
    const log = await sql`SELECT kind, row_key, primary_row, quarantined FROM ha.conflict`;
    assert.deepEqual(log.map((row) => ({ ...row })), [
      {
        kind: "cannot_apply",
        row_key: { id: "5" },
        primary_row: { id: "5", code: "c", v: "refused" },
        quarantined: true,
      },
    ]);
  });
});
