// Own deletes are known by the names that the applier asks with: keys of any order, REPLICA IDENTITY FULL, tables that come
// and go while the stream is read, TRUNCATE.
import assert from "node:assert/strict";
import { test } from "node:test";
import { rowHere, type RowShape, selectRows } from "../../agent/apply/rows.ts";
import { Capture } from "../../agent/node/capture.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { ensureTables } from "../../agent/postgres/objects.ts";
import { ensureNode, openGuard } from "../../agent/role/guard.ts";
import { readShape } from "../helpers/applier_session.ts";
import { versions, withServer } from "../helpers/servers.ts";

/** The names of all rows of a table, by their column `what`. */
async function namesOf(sql: Sql, table: string): Promise<Record<string, string>> {
  const shape: RowShape = await readShape(sql, table);
  const rows = await sql.unsafe(selectRows(shape));
  return Object.fromEntries(rows.map((row) => {
    const { image, name } = rowHere(shape, row, "0");
    return [image.what, name];
  }));
}

for (const version of versions) {
  test(`PostgreSQL ${version}: own deletes are known by the names that the applier asks with`, {
    timeout: 120_000,
  }, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await sql.unsafe(`
        CREATE TABLE plain (what text, id int PRIMARY KEY);
        CREATE TABLE entire (what text, a int, note text, b text, PRIMARY KEY (b, a));
        ALTER TABLE entire ALTER b SET STORAGE EXTERNAL;
        ALTER TABLE entire REPLICA IDENTITY FULL;
        CREATE TABLE bare (what text)`);
      await migrate(sql);
      await ensureTables(sql);
      await ensureNode(sql, { node: "a", role: "primary" });
      await openGuard(sql, { dbname: "postgres", epoch: 1, state: "serving" });
      const failures: string[] = [];
      const capture = await Capture.start({
        // Which waits for its relay.
        role: "secondary",
        sql,
        target: server.target(),
        peerCaptures: () => true,
        onTrouble: (message) => message !== null && failures.push(message),
      });
      try {
        await capture.ready;
        const own = capture.ownChanges();
        const deleted = async (name: string) => await own.deletedUnseen(name, 0n) !== null;
        const app = server.client();
        for (const table of ["plain", "entire"]) {
          const values = table === "plain"
            ? "('gone', 1), ('kept', 2), ('moved', 3), ('updated', 4)"
            : "('gone', 1, 'n', 'x'), ('kept', 2, 'n', 'x'), ('moved', 3, 'n', 'x'), ('updated', 4, 'n', 'x')," +
              // A key that lies outside of the row (TOAST), and that an update leaves there.
              "('large', 5, 'n', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 66) i))";
          await app.unsafe(`INSERT INTO ${table} VALUES ${values}`);
          const names = await namesOf(app, table);
          await app.unsafe(`DELETE FROM ${table} WHERE what = 'gone'`);
          await app.unsafe(`UPDATE ${table} SET what = 'now' WHERE what IN ('updated', 'large')`);
          await app.unsafe(`UPDATE ${table} SET ${table === "plain" ? "id" : "b"} = '7' WHERE what = 'moved'`);
          const after = await namesOf(app, table);
          for (const [what, name] of Object.entries(names)) {
            assert.equal(await deleted(name), what === "gone" || what === "moved", `${table}: ${what}`);
          }
          assert.notEqual(after.moved, names.moved);
          assert.equal(await deleted(after.moved), false, `${table}: the new key`);
          await app.unsafe(`TRUNCATE ${table}`);
          assert.equal(await deleted(names.kept), true, `${table}: truncated`);
        }
        // The stream had begun before these were there; the second is gone again before it can be looked up.
        await app.unsafe(`
          CREATE TABLE late (what text, id int PRIMARY KEY);
          ALTER TABLE late REPLICA IDENTITY FULL;
          CREATE TABLE short (what text, id int PRIMARY KEY);
          ALTER TABLE short REPLICA IDENTITY FULL;
          INSERT INTO late VALUES ('gone', 1), ('kept', 2);
          INSERT INTO short VALUES ('gone', 1);
          INSERT INTO bare VALUES ('gone'), ('kept')`);
        const { gone, kept } = await namesOf(app, "late");
        await app.unsafe("DELETE FROM short; DELETE FROM bare WHERE what = 'gone'; DROP TABLE short");
        await app.unsafe("DELETE FROM late WHERE what = 'gone'");
        assert.equal(await deleted(gone), true, "a table made since");
        assert.equal(await deleted(kept), false);
        assert.deepEqual(failures, []);
      } finally {
        await capture.stop();
      }
    });
  });
}
