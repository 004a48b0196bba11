// The change stream of one real server applied to another: fast path, ordered path, what the tables refuse.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Sql } from "../../agent/postgres/connect.ts";
import { prepare, startFlow } from "../helpers/flow.ts";
import { type TestServer, versions, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

const settings = { wal_level: "logical", track_commit_timestamp: "on" };
const schema = `
  CREATE TABLE account (id bigint PRIMARY KEY, name text NOT NULL, secret bytea, note text UNIQUE);
  CREATE TABLE entry (id int, account bigint REFERENCES account, at timestamptz DEFAULT now(), PRIMARY KEY (account, id));
  CREATE TABLE loose (a int, b jsonb, c point);
  CREATE DOMAIN percent AS int NOT NULL CHECK (VALUE BETWEEN 0 AND 100);
  CREATE TYPE mood AS ENUM ('sad', 'glad');
  CREATE TYPE pair AS (x int, m mood);
  CREATE TABLE odd ("a Key" text PRIMARY KEY, p percent, moods mood[], both_ pair, pairs pair[], acl aclitem,
    total int GENERATED ALWAYS AS (p * 2) STORED, always int GENERATED ALWAYS AS IDENTITY);`;

async function withFlow(
  version: number,
  body: (a: Sql, b: Sql, flow: Awaited<ReturnType<typeof startFlow>>) => Promise<void>,
) {
  await withServer(version, (source: TestServer) =>
    withServer(version, async (target: TestServer) => {
      // Types made in another order have other OIDs on the target.
      await target.pool().unsafe("CREATE TYPE earlier AS ENUM ('a'); DROP TYPE earlier");
      for (const server of [source, target]) await server.pool().unsafe(schema);
      const [a, b] = [await prepare(source, "postgres"), await prepare(target, "postgres")];
      const writer = source.pool({ settings: { session_replication_role: "replica" } });
      const flow = await startFlow(source, target, "postgres");
      try {
        await body(writer, b, flow);
      } finally {
        await flow.stop();
      }
      assert.ok(a);
    }, { settings }), { settings });
}

async function contents(sql: Sql): Promise<Record<string, unknown>> {
  const tables: Record<string, unknown> = {};
  for (const table of ["account", "entry", "loose", "odd"]) {
    const rows = await sql.unsafe(`SELECT t::text AS row FROM ${table} t ORDER BY 1`);
    tables[table] = rows.map((row) => row.row);
  }
  return tables;
}

for (const version of versions) {
  test(`every kind of change arrives (PostgreSQL ${version})`, async () => {
    await withFlow(version, async (a, b, flow) => {
      await a.begin(async (tx) => {
        await tx.unsafe(`INSERT INTO account SELECT i, 'name ' || i, decode(repeat('ab', i), 'hex'), 'note ' || i
          FROM generate_series(1, 500) i`);
        await tx.unsafe("INSERT INTO entry SELECT i, i FROM generate_series(1, 100) i");
        await tx.unsafe(
          "INSERT INTO loose SELECT i % 3, jsonb_build_object('i', i % 3), point(1, i % 3) FROM generate_series(1, 30) i",
        );
        await tx.unsafe(
          `INSERT INTO odd VALUES ('k''1', 50, '{sad,glad}', '(1,sad)', ARRAY[(2,'glad')::pair, NULL], 'postgres=r/postgres'),
          ('', 0, NULL, NULL, '{}', NULL)`,
        );
      });
      await a.unsafe("UPDATE account SET name = name || '!' WHERE id % 2 = 0");
      await a.unsafe("UPDATE account SET id = id + 1000, note = NULL WHERE id BETWEEN 11 AND 20");
      await a.unsafe("DELETE FROM account WHERE id BETWEEN 200 AND 300");
      await a.unsafe(
        "UPDATE loose SET b = '[1]' WHERE a = 1; DELETE FROM loose WHERE ctid IN (SELECT ctid FROM loose WHERE a = 2 LIMIT 4)",
      );
      await a.unsafe(`UPDATE odd SET p = 7, moods = '{glad}', acl = 'postgres=rw/postgres' WHERE "a Key" = ''`);
      // A value too large to be in the row, first set, then untouched by updates in the same and in a later transaction.
      await a.unsafe(`ALTER TABLE account ALTER secret SET STORAGE EXTERNAL`);
      await a.begin(async (tx) => {
        await tx.unsafe("UPDATE account SET secret = decode(repeat('cd', 20000), 'hex') WHERE id IN (1, 2)");
        await tx.unsafe("UPDATE account SET name = 'touched' WHERE id = 1");
      });
      await a.unsafe("UPDATE account SET name = 'again' WHERE id IN (1, 2, 3)");
      // Deleted and made again, swapped unique values, a savepoint rolled back.
      await a.begin(async (tx) => {
        await tx.unsafe("DELETE FROM account WHERE id = 5");
        await tx.unsafe("INSERT INTO account VALUES (5, 'five', NULL, 'note 5')");
        await tx.unsafe("UPDATE account SET note = 'x' WHERE id = 6");
        await tx.unsafe("UPDATE account SET note = 'note 6' WHERE id = 7");
        await tx.unsafe("UPDATE account SET note = 'note 7' WHERE id = 6");
        await tx.savepoint(async (inner) => {
          await inner.unsafe("DELETE FROM account");
          throw new Error("undone");
        }).catch((error) => assert.equal(error.message, "undone"));
      });
      await flow.settled();
      assert.deepEqual(await contents(b), await contents(a));
      await a.unsafe("TRUNCATE account CASCADE");
      await a.unsafe("INSERT INTO account VALUES (1, 'after', NULL, NULL)");
      await flow.settled();
      assert.deepEqual(await contents(b), await contents(a));
      assert.deepEqual(flow.troubles, []);
      assert.deepEqual(flow.conflicts, []);
    });
  });
}

test("a row that is missing, one that is refused and a table that differs do not stop the rest", async () => {
  await withFlow(versions[0], async (a, b, flow) => {
    await a.unsafe("INSERT INTO account SELECT i, 'n', NULL, 'note ' || i FROM generate_series(1, 20) i");
    await flow.settled();
    await b.begin(async (tx) => {
      await tx.unsafe("SET LOCAL session_replication_role = replica");
      await tx.unsafe("DELETE FROM account WHERE id = 3");
      await tx.unsafe("INSERT INTO account VALUES (100, 'stray', NULL, 'note 50')");
    });
    await a.begin(async (tx) => {
      await tx.unsafe("UPDATE account SET name = 'new' WHERE id <= 5");
      await tx.unsafe("INSERT INTO account SELECT i, 'n', NULL, 'note ' || i FROM generate_series(49, 51) i");
    });
    await flow.settled();
    assert.equal((await b`SELECT name FROM account WHERE id = 3`)[0].name, "new");
    assert.equal((await b`SELECT count(*)::int AS n FROM account WHERE id IN (49, 50, 51)`)[0].n, 2);
    const logged =
      await b`SELECT kind, table_name, row_key->>'id' AS id, primary_row->>'note' AS note FROM ha.conflict ORDER BY id`;
    assert.deepEqual(logged.map((row) => ({ ...row })), [
      { kind: "update_missing", table_name: "account", id: "3", note: "note 3" },
      { kind: "cannot_apply", table_name: "account", id: "50", note: "note 50" },
    ]);
    // Alone in its transaction: the server refuses it only when the whole COPY has arrived.
    await b.begin(async (tx) => {
      await tx.unsafe("SET LOCAL session_replication_role = replica");
      await tx.unsafe("INSERT INTO account VALUES (101, 'stray', NULL, 'note 71')");
    });
    await a.unsafe("INSERT INTO account VALUES (71, 'n', NULL, 'note 71')");
    await flow.settled();
    assert.equal((await b`SELECT count(*)::int AS n FROM ha.conflict WHERE row_key->>'id' = '71'`)[0].n, 1);
    await a.unsafe("ALTER TABLE account ADD COLUMN extra int");
    await a.unsafe("INSERT INTO account (id, name, extra) VALUES (60, 'wider', 6)");
    await waitFor(() => flow.troubles.some((text) => text.includes("column extra is missing here")), {
      deadlineMs: 20_000,
      what: "the alarm that names the column",
    });
    await b.begin(async (tx) => {
      await tx.unsafe("SET LOCAL session_replication_role = replica");
      await tx.unsafe("ALTER TABLE account ADD COLUMN extra integer");
    });
    await flow.settled();
    assert.equal((await b`SELECT extra FROM account WHERE id = 60`)[0].extra, 6);
  });
});
