// A server with data becomes a primary while its application writes, and its pack becomes a secondary: closed, at the exact
// position, with even sequences. And what setup refuses leaves everything as it was.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Buffer } from "node:buffer";
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseLsn } from "../../agent/change/lsn.ts";
import { readConfig } from "../../agent/config.ts";
import { AgentError, RefusedError } from "../../agent/errors.ts";
import { type Home, homeAt } from "../../agent/home.ts";
import { decrypt } from "../../agent/pack/age.ts";
import { memberNames } from "../../agent/pack/manifest.ts";
import { openZip } from "../../agent/pack/zip_reader.ts";
import { openPool } from "../../agent/postgres/connect.ts";
import { readStatus } from "../../agent/postgres/postmaster.ts";
import { localTarget, startCluster, stopCluster } from "../../agent/postgres/server.ts";
import { clusterAt } from "../../agent/setup/cluster.ts";
import { createNewPack } from "../../agent/setup/create_pack.ts";
import { setupPrimary } from "../../agent/setup/primary.ts";
import { setupSecondary } from "../../agent/setup/secondary.ts";
import { Steps } from "../../agent/setup/steps.ts";
import { fingerprint, loadTls } from "../../agent/trust/certificates.ts";
import { pinPeer } from "../../agent/trust/join.ts";
import { ageIdentity, readKeyFile } from "../../agent/trust/key.ts";
import { freePort, type TestServer, versions, withServer } from "../helpers/servers.ts";

const names = { primary: "127.0.0.1:18281", secondary: "127.0.0.1:18282" };

function makeKey(server: TestServer): string {
  const path = join(server.folder, "key");
  writeFileSync(path, randomBytes(48), { mode: 0o600 });
  return path;
}

function optionsOf(server: TestServer) {
  const { pgdata, port, binaries } = server.cluster;
  return { pgdata, pgPort: port, pgBin: binaries.binDir, dbname: "shop", key: makeKey(server) };
}

/** Writes until told to stop; every failure of the application counts. */
function startApplication(server: TestServer) {
  let stop = false;
  const sql = server.client({ database: "shop", max: 1, settings: {} });
  const done = (async () => {
    let sold = 0;
    for (; !stop; sold++) await sql`insert into sale (what) values (${`thing ${sold}`})`;
    return sold;
  })();
  done.catch(() => {}); // shown by whoever awaits it
  return async () => {
    stop = true;
    return await done;
  };
}

/** Neither the pack as it is nor any of its members opened holds what must stay on the primary. */
async function assertNoSecrets(home: Home, keyFile: string): Promise<void> {
  const key = readKeyFile(keyFile);
  const lineOf = (pem: string) => pem.split("\n")[1];
  const secrets: [string, Buffer][] = [
    ["the master key", key.bytes],
    ["the master key in base64", Buffer.from(key.bytes.toString("base64").slice(0, 40))],
    ["the master key in hex", Buffer.from(key.bytes.toString("hex").slice(0, 64))],
    ["the private key", Buffer.from(lineOf(readFileSync(home.nodeKey, "utf8")))],
    ["the key of its packs", Buffer.from(ageIdentity(key))],
  ];
  const search = async (name: string, chunks: AsyncIterable<Uint8Array>) => {
    let tail = Buffer.alloc(0);
    let bytes = 0;
    for await (const chunk of chunks) {
      const text = Buffer.concat([tail, chunk]);
      for (const [what, secret] of secrets) assert.ok(!text.includes(secret), `${what} is in ${name}`);
      tail = text.subarray(-200);
      bytes += chunk.length;
    }
    assert.ok(bytes > 50, `${name} was looked through`);
  };
  await search("the file", createReadStream(home.packFile));
  const zip = await openZip(home.packFile);
  try {
    for (const name of [memberNames.data, memberNames.backupManifest, memberNames.pair]) {
      await search(name, decrypt(key, zip.read(name)));
    }
  } finally {
    await zip.close();
  }
}

for (const version of versions) {
  test(`PostgreSQL ${version}: a server at work becomes a primary, its pack a secondary`, async () => {
    await withServer(version, async (server) => {
      await server.pool()`create database shop`;
      const shop = server.pool({ database: "shop" });
      await shop`create table sale (id bigint generated always as identity primary key, what text)`;
      await shop`create table note (what text)`;
      const stop = startApplication(server);
      const home = homeAt(server.folder); // its run folder is the one that the server has its socket in
      const options = optionsOf(server);
      const rules = join(server.folder, "rules.toml");
      writeFileSync(
        rules,
        `[merge]\ndefault = "primary_wins"\n[[table]]\nmatch = "public.sale"\npolicy = "append_only"\n`,
      );
      const before = readStatus(server.cluster.pgdata);
      const made = await setupPrimary(home, names, { ...options, config: rules }, new Steps()).finally(stop);
      const sold = await stop();
      assert.ok(sold > 0);
      assert.deepEqual(readStatus(server.cluster.pgdata), before, "the server was left as it was");
      assert.equal(statSync(home.packFile).size, made.pack_bytes);
      await assertNoSecrets(home, options.key);
      const inside = join(server.cluster.pgdata, "master.key");
      writeFileSync(inside, readFileSync(options.key), { mode: 0o600 });
      await assert.rejects(
        setupPrimary(home, names, { ...options, key: inside }, new Steps()),
        /the master key .* lies in its data folder/,
      );
      rmSync(inside);
      assert.equal(readFileSync(home.manageKeyFile, "utf8").trim(), options.key, "nothing was changed");
      const config = readConfig(home.configFile);
      assert.deepEqual([config.node.role, config.merge.default, config.table[0].policy], [
        "primary",
        "primary_wins",
        "append_only",
      ]);
      const [slot] = await shop`select plugin, confirmed_flush_lsn::text as lsn from pg_replication_slots
        where slot_name = 'ha_relay'`;
      assert.equal(slot.plugin, "pgoutput");
      assert.ok(parseLsn(slot.lsn) <= parseLsn(made.end_lsn));

      const other = homeAt(join(server.folder, "other"));
      const port = await freePort();
      const pgdata = join(server.folder, "other", "data");
      const setup = {
        pack: home.packFile,
        pgdata,
        pgPort: port,
        pgBin: server.cluster.binaries.binDir,
        key: options.key,
      };
      const seeded = await setupSecondary(other, setup, new Steps());
      assert.deepEqual([seeded.end_lsn, seeded.generation], [made.end_lsn, made.generation]);
      assert.equal(readStatus(pgdata).running, false);
      assert.deepEqual(loadTls(other).trusted.map((pem) => fingerprint(pem)), [fingerprint(loadTls(home).cert)]);
      assert.equal(readConfig(other.configFile).table[0].policy, "append_only");

      const copy = clusterAt(other, { pgdata, binaries: server.cluster.binaries, port, listen: "127.0.0.1" });
      await startCluster(copy);
      const sql = openPool(localTarget(copy, "shop"), { purpose: "test", max: 1 });
      try {
        const [state] = await sql`select role, state, writable from ha.status`;
        assert.deepEqual({ ...state }, { role: "secondary", state: "standby", writable: false });
        const [progress] = await sql`select generation, applied_lsn::text as lsn from ha.progress`;
        assert.deepEqual({ ...progress }, { generation: made.generation, lsn: made.end_lsn });
        await assert.rejects(sql`insert into sale (what) values ('no')`, { code: "25006" });
        const [{ setting }] = await sql`select array_to_string(setconfig, ',') as setting from pg_db_role_setting s
          join pg_database d on d.oid = setdatabase where datname = 'shop'`;
        assert.match(setting, /default_transaction_read_only=on/);
        const [{ here }] = await sql`select count(*)::int as here from sale`;
        assert.ok(here <= sold);
        const [{ slots }] = await sql`select count(*)::int as slots from pg_replication_slots`;
        assert.equal(slots, 0);
      } finally {
        await sql.end();
        await stopCluster(copy);
      }

      await assert.rejects(setupSecondary(other, setup, new Steps()), RefusedError);
      const again = await setupSecondary(other, { ...setup, replace: true }, new Steps());
      assert.ok(existsSync(join(again.kept_aside!, "PG_VERSION")));
      assert.deepEqual(readdirSync(other.root).filter((name) => name.includes("incoming")), []);
    });
  });
}

test("run again it makes a new pack; once a secondary has joined only if that is asked for", async () => {
  await withServer(versions[0], async (server) => {
    const home = homeAt(server.folder);
    const options = optionsOf(server);
    const first = await setupPrimary(home, names, options, new Steps());
    assert.match(readFileSync(home.appPasswordFile, "utf8"), /^[\w-]{32}\n$/);
    const certificate = readFileSync(home.nodeCertificate, "utf8");
    const second = await setupPrimary(home, names, {}, new Steps()); // agent.toml knows the rest
    assert.equal(second.pair_id, first.pair_id);
    assert.notEqual(second.generation, first.generation);
    assert.equal(readFileSync(home.nodeCertificate, "utf8"), certificate);
    const third = await createNewPack(home, {}, new Steps());
    assert.equal(third.manifest.pair_id, first.pair_id);
    assert.deepEqual(third.manifest.primary, { name: "127.0.0.1:18281", address: "127.0.0.1:18281" });
    pinPeer(home, certificate);
    await assert.rejects(setupPrimary(home, names, options, new Steps()), /has joined this pair/);
    await assert.rejects(createNewPack(home, {}, new Steps()), RefusedError);
    await setupPrimary(home, names, { ...options, replace: true }, new Steps());
  });
});

test("a running server is restarted only if that is allowed", async () => {
  await withServer(versions[0], async (server) => {
    const home = homeAt(join(server.folder, "home"));
    const options = optionsOf(server);
    const before = readStatus(server.cluster.pgdata);
    await assert.rejects(setupPrimary(home, names, options, new Steps()), (error: AgentError) => {
      assert.match(error.message, /it must be restarted: its socket/);
      assert.match(error.remedy, /--restart/);
      return error.exitCode === 3;
    });
    assert.deepEqual(readStatus(server.cluster.pgdata), before);
    assert.equal(existsSync(home.root), false);
    await setupPrimary(home, names, { ...options, restart: true }, new Steps());
    const after = readStatus(server.cluster.pgdata);
    assert.ok(after.running && after.socketDir === home.runDir, "it runs, as the agent will run it");
  });
});

test("an existing server is told what it lacks, line by line, and nothing is made", async () => {
  await withServer(versions[0], async (server) => {
    const home = homeAt(join(server.folder, "home"));
    mkdirSync(home.root);
    const { host, port } = server.target();
    const database = `postgres://postgres@localhost:${port}/postgres?host=${encodeURIComponent(host)}`;
    const key = makeKey(server);
    const sql = server.pool();
    await server.stop();
    writeFileSync(join(server.cluster.pgdata, "postgresql.auto.conf"), "wal_level = replica\n");
    await assert.rejects(setupPrimary(home, names, { database, key }, new Steps()), { exitCode: 4 });
    // The last setting counts: after the agent's own file.
    const conf = join(server.cluster.pgdata, "hapair.conf");
    writeFileSync(conf, readFileSync(conf, "utf8") + "wal_level = replica\nmax_wal_senders = 2\n");
    await server.start();
    await assert.rejects(setupPrimary(home, names, { database, key }, new Steps()), (error: AgentError) => {
      assert.match(error.message, /wal_level is replica, needed is logical; max_wal_senders is 2/);
      assert.match(error.remedy, /ALTER SYSTEM SET wal_level = logical; ALTER SYSTEM SET max_wal_senders/);
      return error.exitCode === 3;
    });
    assert.deepEqual(readdirSync(home.root), []);
    const [{ schema }] = await sql`select to_regnamespace('ha') as schema`;
    assert.equal(schema, null);
  });
});
