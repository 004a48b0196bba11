// A pack made while writers go on, opened elsewhere, recovered: it must hold exactly the transactions before its LSN, and
// the slot exactly the others.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseLsn } from "../../agent/change/lsn.ts";
import { UsageError } from "../../agent/errors.ts";
import { createPack } from "../../agent/pack/create.ts";
import { openPack } from "../../agent/pack/open.ts";
import { prepareSeed, recoverSeed } from "../../agent/pack/seed.ts";
import { openPool } from "../../agent/postgres/connect.ts";
import { type Cluster, localTarget, stopCluster } from "../../agent/postgres/server.ts";
import { makeIdentity } from "../../agent/trust/certificates.ts";
import type { MasterKey } from "../../agent/trust/key.ts";
import { ensureSlot } from "../../agent/wal/slot.ts";
import { freePort, type TestServer, versions, withServer } from "../helpers/servers.ts";

const facts = {
  agent_version: "0",
  pair_id: "pair",
  generation: "one",
  primary: { name: "a", address: "a:8282" },
  secondary: { name: "b", address: "b:8282" },
  port: 3456,
};

function newKey(): MasterKey {
  return { path: "/key", bytes: randomBytes(32) };
}

async function makePack(server: TestServer, key: MasterKey, file: string) {
  const identity = await makeIdentity("a");
  const pair = { primary_certificate: identity.cert, join: identity, rules: "", settings: {} };
  return await createPack({ file, target: server.target(), sql: server.pool(), key, facts, pair });
}

/** Two writers, each of whose transactions inserts its own number, one of every three an aborted one. */
function startWriters(server: TestServer) {
  let stop = false;
  const write = async (writer: number) => {
    const sql = server.client({ max: 1 });
    let n = 0;
    for (; !stop; n++) {
      await sql`insert into numbers values (${writer}, ${n}, repeat('x', 500))`;
      if (n % 3 === 0) {
        await sql.begin(async (tx) => {
          await tx`insert into numbers values (${writer}, ${-n - 1}, 'never')`;
          throw new Error("aborted");
        }).catch((error) => assert.equal(error.message, "aborted"));
      }
    }
    return n;
  };
  const done = Promise.all([write(0), write(1)]);
  return async () => {
    stop = true;
    return await done;
  };
}

/** The numbers in the slot by the LSN of their commit, from pgoutput's text form. */
function numbersIn(rows: readonly { data: Uint8Array }[]): { commit: bigint; key: string }[] {
  const found: { commit: bigint; key: string }[] = [];
  let commit = 0n;
  for (const row of rows) {
    const data = Buffer.from(row.data);
    if (data[0] === 0x42) commit = data.readBigUInt64BE(1); // Begin
    if (data[0] !== 0x49) continue; // Insert: relation, 'N', count, then 't' length text each
    const writerLength = data.readInt32BE(9);
    const writer = data.toString("utf8", 13, 13 + writerLength);
    const at = 13 + writerLength + 1;
    found.push({ commit, key: `${writer}:${data.toString("utf8", at + 4, at + 4 + data.readInt32BE(at))}` });
  }
  return found;
}

for (const version of versions) {
  test(`PostgreSQL ${version}: a pack made under load holds exactly what was committed before its LSN`, async () => {
    await withServer(version, async (server) => {
      const sql = server.pool();
      await sql`create table numbers (writer int, n int, filler text, primary key (writer, n))`;
      await sql`create publication ha_changes for all tables`;
      const stop = startWriters(server);
      await ensureSlot(sql, "ha_relay");
      const key = newKey();
      const file = join(server.folder, "HAPack.zip");
      const created = await makePack(server, key, file).finally(stop);
      const counts = await stop();

      const copy: Cluster = {
        ...server.cluster,
        pgdata: join(server.folder, "copy"),
        socketDir: join(server.folder, "run2"),
        logFile: join(server.folder, "run2", "postgres.log"),
        port: await freePort(),
      };
      const pack = await openPack(file, key);
      try {
        const { aside } = await pack.extract(copy.pgdata, {
          user: copy.user,
          replace: false,
          prepare: (folder) => prepareSeed(folder, copy, pack.manifest, {}),
        });
        assert.equal(aside, null);
      } finally {
        await pack.close();
      }
      await recoverSeed(copy);
      const seeded = openPool(localTarget(copy, "postgres"), { purpose: "test", max: 1 });
      let keys: string[];
      try {
        keys = (await seeded`select writer || ':' || n as key from numbers`).map((row) => row.key);
        const [{ recovering }] = await seeded`select pg_is_in_recovery() as recovering`;
        assert.equal(recovering, false);
      } finally {
        await seeded.end();
        await stopCluster(copy);
      }

      const x = parseLsn(created.manifest.postgres.end_lsn);
      const inSlot = numbersIn(
        await sql<{ data: Uint8Array }[]>`select data from pg_logical_slot_peek_binary_changes('ha_relay', null, null,
          'proto_version', '1', 'publication_names', 'ha_changes')`,
      );
      const after = inSlot.filter((row) => row.commit >= x).map((row) => row.key);
      const all = counts.flatMap((count, writer) => Array.from({ length: count }, (_, n) => `${writer}:${n}`));
      assert.ok(keys.length > 0 && after.length > 0, `${keys.length} rows in the seed, ${after.length} after it`);
      assert.deepEqual([...keys, ...after].sort(), all.sort());
      const seed = new Set(keys);
      assert.ok(inSlot.filter((row) => row.commit < x).every((row) => seed.has(row.key)));
    });
  });
}

test("a pack that was altered anywhere is refused and leaves nothing behind", async () => {
  await withServer(versions[0], async (server) => {
    const key = newKey();
    const file = join(server.folder, "HAPack.zip");
    await makePack(server, key, file);
    const good = readFileSync(file);
    const pgdata = join(server.folder, "copy");
    const attempt = async (bytes: Uint8Array, withKey = key) => {
      const bad = join(server.folder, "bad.zip");
      writeFileSync(bad, bytes);
      const pack = await openPack(bad, withKey);
      try {
        await pack.extract(pgdata, { user: null, replace: false });
      } finally {
        await pack.close();
      }
    };
    await assert.rejects(attempt(good, newKey()), (error: UsageError) => {
      assert.match(error.message, /made with another master key/);
      return error instanceof UsageError;
    });
    for (const share of [0, 0.0001, 0.3, 0.7, 0.9999]) {
      const altered = Buffer.from(good);
      altered[Math.floor(share * (good.length - 1))] ^= 1;
      await assert.rejects(attempt(altered), UsageError, `altered at ${share}`);
    }
    for (const length of [0, 1000, good.length >> 1, good.length - 1]) {
      await assert.rejects(attempt(good.subarray(0, length)), UsageError, `cut to ${length}`);
    }
    assert.equal(existsSync(pgdata), false);
    assert.deepEqual(readdirSync(server.folder).filter((name) => name.includes("incoming")), []);
  });
});
