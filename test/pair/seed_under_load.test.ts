// A server with data, at work, becomes the primary: the pack is made while pgbench's load writes, the secondary is made
// from it, both run. Nothing is lost and nothing is there twice.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { openPool } from "../../agent/postgres/connect.ts";
import { chooseUser } from "../../agent/postgres/os_user.ts";
import type { ClientTarget } from "../helpers/follower.ts";
import { waitEqual } from "../helpers/equality.ts";
import { failover, type Pair, planPair, setupSecondary, waitSteady } from "../helpers/pair.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { checkHistory, makeTpcb, startTpcb, tpcbSums } from "../helpers/tpcb.ts";
import { waitFor } from "../helpers/wait.ts";

/** A cluster as some administrator made it: nothing of the agent in it, its socket elsewhere. */
async function startForeignCluster(scope: Scope, pair: Pair): Promise<ClientTarget> {
  const { binDir, primary } = pair;
  const user = chooseUser({ pgdata: primary.pgdata });
  const run = (name: string, args: string[]) => {
    const ran = spawnSync(join(binDir, name), args, {
      cwd: "/",
      encoding: "utf8",
      uid: user?.uid,
      gid: user?.gid,
      stdio: "pipe",
    });
    assert.equal(ran.status, 0, `${name}: ${ran.stderr}`);
  };
  const sockets = join(scope.dir, "sockets");
  for (const folder of [primary.pgdata, sockets]) {
    mkdirSync(folder, { mode: 0o700 });
    if (user) chownSync(folder, user.uid, user.gid);
  }
  run("initdb", [
    "-D",
    primary.pgdata,
    "-U",
    "postgres",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--no-sync",
  ]);
  appendFileSync(
    join(primary.pgdata, "postgresql.conf"),
    `port = ${primary.pgPort}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '${sockets}'\nfsync = off\n`,
  );
  run("pg_ctl", ["start", "-w", "-s", "-D", primary.pgdata, "-l", join(sockets, "log")]);
  const root = openPool({ host: sockets, port: primary.pgPort, user: "postgres", database: "postgres" }, {
    purpose: "test",
  });
  await root`CREATE ROLE teller LOGIN PASSWORD 'of no worth'`;
  await root`CREATE DATABASE app OWNER teller`;
  await root.end();
  const hosts = [{ host: primary.host, port: primary.pgPort }];
  return { hosts, database: "app", user: "teller", password: "of no worth" };
}

scopedTest("a server with data becomes a pair while it is written", async (scope) => {
  const pair = await planPair(scope);
  const { primary, secondary } = pair;
  const target = await startForeignCluster(scope, pair);
  const teller = primary.app(target);
  await makeTpcb(teller, { branches: 10 });
  await teller`CREATE TABLE idle AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 200000) g`;
  const load = startTpcb(target, { clients: 4, branches: 10, thinkMs: 1 });
  scope.defer("load", async () => void await load.stop());
  const more = async (count: number) => {
    const from = load.acknowledged;
    await waitFor(() => load.acknowledged >= from + count, { what: `${count} transactions`, deadlineMs: 30_000 });
  };
  await more(200);

  const setup = (args: string[], expect = 0) =>
    primary.agent([
      ...["setup", "primary", primary.name, secondary.name, "--pgdata", primary.pgdata, "--pg-bin", pair.binDir],
      ...["--pg-port", String(primary.pgPort), "--key", pair.keyFile, "--create-key", ...args],
    ], { expect });
  const refused = await setup([], 3);
  assert.match(refused.stderr, /restart/, "a restart that was not allowed is refused, and says so");
  await setup(["--restart"]);
  await more(200);
  const before = load.acknowledged;
  const packed = await setup(["--json"]);
  assert.ok(load.acknowledged > before + 20, "the load went on while the pack was made");
  assert.ok(JSON.parse(packed.stdout).pack_bytes > 1_000_000);

  primary.configure({ failover });
  primary.start();
  await primary.waitServing();
  await more(200);
  await setupSecondary(pair);
  secondary.configure({ failover });
  secondary.start();
  await waitSteady(pair);
  await more(200);
  const report = await load.stop();
  console.log(
    `${report.acknowledged.length} acknowledged, ${report.tps.toFixed(0)} tps, ${report.reconnections} reconnections`,
  );
  assert.deepEqual(report.errors, []);

  await waitEqual(primary.superuser, secondary.superuser);
  for (const sql of [primary.superuser, secondary.superuser]) {
    assert.deepEqual(await checkHistory(sql, [report]), { missing: [], doubled: [], invented: [] });
    const sums = await tpcbSums(sql);
    assert.equal(new Set(Object.values(sums)).size, 1, JSON.stringify(sums));
    const [{ count }] = await sql`SELECT count(*)::int AS count FROM idle`;
    assert.equal(count, 200_000);
  }
}, { timeoutMs: 240_000 });
