// A backup restored: sequences, replica identities, prepared transactions and subscriptions are as a server of no pair needs
// them, whatever the pair had made of them.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { homeAt } from "../../agent/home.ts";
import { openPool, type Sql } from "../../agent/postgres/connect.ts";
import { type Cluster, localTarget, startCluster, stopCluster } from "../../agent/postgres/server.ts";
import { backupName, makeBackup } from "../../agent/setup/backup.ts";
import { setupPrimary } from "../../agent/setup/primary.ts";
import { restoreBackup } from "../../agent/setup/restore.ts";
import { Steps } from "../../agent/setup/steps.ts";
import { freePort, versions, withServer } from "../helpers/servers.ts";

const names = { primary: "127.0.0.1:18281", secondary: "127.0.0.1:18282" };
const rules = `[[table]]\nmatch = "public.item"\npolicy = "merge_columns"\n`;

const schema = `
CREATE TABLE sale (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
CREATE TABLE item (id int PRIMARY KEY, code text NOT NULL UNIQUE, what text);
ALTER TABLE item REPLICA IDENTITY USING INDEX item_code_key;
CREATE TABLE loose (what text);
CREATE TABLE whole (what text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE SEQUENCE down INCREMENT -3 START -1;
CREATE SEQUENCE round MINVALUE 1 MAXVALUE 10 START 5 CYCLE;
CREATE SEQUENCE alone;
SELECT nextval('down'), nextval('alone'), nextval('round');
`;

const sequencesOf = async (sql: Sql) =>
  (await sql`SELECT c.relname AS name, seqincrement::text AS step, seqmin::text AS min, seqmax::text AS max,
    seqstart::text AS start, seqcycle AS cycle FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid
    WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1`).map((row) => ({ ...row }));

const identitiesOf = async (sql: Sql) =>
  (await sql`SELECT relname AS name, relreplident::text AS identity FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1`).map((row) => ({ ...row }));

for (const version of versions) {
  test(`PostgreSQL ${version}: what a pair has changed is put back in what is restored`, async () => {
    await withServer(version, async (server) => {
      await server.pool()`ALTER SYSTEM SET max_prepared_transactions = 5`;
      await server.stop();
      await server.start();
      await server.pool()`CREATE DATABASE shop`;
      const shop = server.pool({ database: "shop" });
      await shop.unsafe(schema);
      const before = { sequences: await sequencesOf(shop), identities: await identitiesOf(shop) };
      const home = homeAt(server.folder);
      const { pgdata, port, binaries } = server.cluster;
      const key = join(server.folder, "key");
      const config = join(server.folder, "rules.toml");
      writeFileSync(key, randomBytes(48), { mode: 0o600 });
      writeFileSync(config, rules);
      await setupPrimary(
        home,
        names,
        { pgdata, pgPort: port, pgBin: binaries.binDir, dbname: "shop", key, config },
        new Steps(),
      );
      assert.notDeepEqual(await sequencesOf(shop), before.sequences, "setup has divided the sequences");
      assert.notDeepEqual(await identitiesOf(shop), before.identities);
      await shop`INSERT INTO sale (what) VALUES ('here')`;
      // As if they had come from the peer: one by its row, one told.
      await shop`INSERT INTO sale (id, what) OVERRIDING SYSTEM VALUE VALUES (1000, 'there')`;
      await shop`INSERT INTO ha.sequence_position VALUES ('public', 'alone', 500), ('public', 'down', -70)`;
      const prepared = server.client({ database: "shop", max: 1 });
      await prepared.unsafe(`BEGIN; INSERT INTO loose VALUES ('prepared'); PREPARE TRANSACTION 'it''s one'`);
      await shop.unsafe(`CREATE SUBSCRIPTION theirs CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p
        WITH (connect = false, slot_name = 'theirs')`);
      await shop`ALTER SUBSCRIPTION theirs ENABLE`;

      const { file } = await makeBackup(home, {}, new Steps());
      await prepared.unsafe(`COMMIT PREPARED 'it''s one'`);
      const place = join(server.folder, "back");
      const restored = await restoreBackup(
        homeAt(join(server.folder, "no home")),
        { file, key, pgdata: place, pgBin: binaries.binDir, pgPort: await freePort() },
        new Steps(),
      );
      assert.deepEqual(restored.prepared_rolled_back, ["it's one"]);
      assert.deepEqual(restored.subscriptions_disabled, ["theirs"]);
      assert.equal(restored.conflicts_kept_in, null);
      assert.deepEqual(readdirSync(server.folder).filter((name) => /^back\.|no home/.test(name)), []);

      const copy: Cluster = { ...server.cluster, pgdata: place, port: restored.port, socketDir: place };
      await startCluster(copy);
      const sql = openPool(localTarget(copy, "shop"), { purpose: "test", max: 1 });
      try {
        assert.deepEqual(await sequencesOf(sql), before.sequences);
        assert.deepEqual(await identitiesOf(sql), before.identities);
        const [next] = await sql`SELECT nextval('down')::int AS down, nextval('alone')::int AS alone`;
        assert.deepEqual({ ...next }, { down: -73, alone: 501 });
        const [{ id }] = await sql`INSERT INTO sale (what) VALUES ('alone') RETURNING id::int AS id`;
        assert.equal(id, 1001);
        await sql`INSERT INTO item VALUES (1, 'x', 'y')`;
        const [{ rows, prepared }] = await sql`SELECT (SELECT count(*)::int FROM loose) AS rows,
          (SELECT count(*)::int FROM pg_prepared_xacts) AS prepared`;
        assert.deepEqual([rows, prepared], [0, 0]);
      } finally {
        await sql.end({ timeout: 1 });
        await stopCluster(copy);
      }
    });
  });
}

test("the name of a backup tells of which node and when, and fits any file system", () => {
  const at = new Date("2030-01-02T03:04:05.678Z");
  assert.equal(backupName("db1.example.com", at), "hapair-db1.example.com-20300102T030405678Z.zip");
  assert.equal(backupName("[::1]:8282", at), "hapair-___1__8282-20300102T030405678Z.zip");
});
