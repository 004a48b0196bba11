// New keys in a rehearsal: of the same kind as the sequence would give, out of the application's way, and without a step of
// the sequence itself.
import assert from "node:assert/strict";
import { test } from "node:test";
import { newValues, prepareRehearsal, rehearsedValues } from "../../agent/apply/new_values.ts";
import { applierSession, inTransaction } from "../helpers/applier_session.ts";
import { versions, withServer } from "../helpers/servers.ts";

const script = `
  CREATE TABLE serial_key (id serial PRIMARY KEY);
  INSERT INTO serial_key SELECT FROM generate_series(1, 5);
  CREATE SEQUENCE never_asked INCREMENT 2 START 8;
  CREATE SEQUENCE falling INCREMENT -2;
  SELECT nextval('falling');
  CREATE SEQUENCE tiny AS smallint;
  SELECT nextval('tiny');
  CREATE SEQUENCE other."Odd Name"`;

for (const version of versions) {
  test(`PostgreSQL ${version}: new keys of a rehearsal leave the sequences alone`, { timeout: 120_000 }, async () => {
    await withServer(version, async (server) => {
      const sql = await applierSession(server, `CREATE SCHEMA other; ${script}`);
      const before = [...await sql`SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2`];
      await prepareRehearsal(sql);
      const valueOf = rehearsedValues(sql);
      await inTransaction(sql, async () => {
        assert.equal(await valueOf("nextval('serial_key_id_seq'::regclass)"), "1000006");
        assert.equal(await valueOf("nextval('serial_key_id_seq')"), "1000007");
        assert.equal(await valueOf("nextval('never_asked'::regclass)"), String(8 + 2 * 1_000_003));
        assert.equal(await valueOf("pg_catalog.nextval('falling'::regclass)"), String(-1 - 2 * 1_000_004));
        assert.equal(await valueOf("nextval('tiny'::regclass)"), String(32_767 - 5), "within its range");
        assert.equal(await valueOf(`('F-'::text || nextval('other."Odd Name"'::regclass))`), "F-1000007");
        assert.match(await valueOf("gen_random_uuid()"), /^[0-9a-f-]{36}$/);
      });
      const known = before.map(({ sequencename }) => sequencename);
      const after = await sql`SELECT schemaname, sequencename, last_value FROM pg_sequences
        WHERE sequencename = ANY (${known}) ORDER BY 1, 2`;
      assert.deepEqual([...after], before);
      assert.equal(await newValues(sql)("nextval('serial_key_id_seq'::regclass)"), "6");
    });
  });
}
