// Backups of both nodes of a pair at work: the pair does not notice, and what is restored from them is a server of its own
// with all data, from which a new pair can be made.
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { openCopy } from "../../agent/pack/open.ts";
import { openPool, type Sql } from "../../agent/postgres/connect.ts";
import { chooseUser, runAs } from "../../agent/postgres/os_user.ts";
import { readKeyFile } from "../../agent/trust/key.ts";
import { failover, type Pair, planPair, setupPrimary, setupSecondary, waitSteady } from "../helpers/pair.ts";
import { type PairNode, runAgent } from "../helpers/pair_node.ts";
import { type Scope, scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

const rules = `
[[table]]
match = "public.audit"
policy = "append_only"
[[table]]
match = "public.account"
policy = "merge_columns"
[[primary_only]]
table = "public.account"
columns = ["secret"]
operations = ["update"]
message = "password reset"
`;

async function makePairWithRules(scope: Scope): Promise<Pair> {
  const pair = await planPair(scope, { name: "one" });
  const file = join(scope.dir, "rules.toml");
  writeFileSync(file, rules);
  await setupPrimary(pair);
  const { primary, secondary } = pair;
  primary.configure({ failover, node: { listen: primary.name } });
  primary.start();
  await primary.waitServing();
  const app = primary.app(pair.target);
  await app`CREATE TABLE account (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, secret text)`;
  await app`CREATE TABLE audit (id serial PRIMARY KEY, what text)`;
  await app`CREATE TABLE loose (what text)`;
  await primary.stop();
  await setupPrimary(pair, ["--config", file]); // now that its tables are there
  primary.configure({ failover, node: { listen: primary.name } });
  primary.start();
  await primary.waitServing();
  await setupSecondary(pair);
  secondary.configure({ failover, node: { listen: secondary.name } });
  secondary.start();
  await waitSteady(pair);
  return pair;
}

/** Everything of a pair that a backup must leave as it is. */
async function pairState(node: PairNode) {
  const conf = join(node.home, "conf");
  const files = readdirSync(conf, { recursive: true, encoding: "utf8" }).sort()
    .filter((name) => statSync(join(conf, name)).isFile())
    .map((name) => [name, readFileSync(join(conf, name), "utf8")]);
  const [pair] = await node.superuser`SELECT pair_id, generation FROM ha.pair`;
  const slots = await node.superuser`SELECT slot_name, slot_type FROM pg_replication_slots
    WHERE NOT temporary ORDER BY 1`;
  const publications = await node.superuser`SELECT oid::text, pubname FROM pg_publication`;
  return { files, pair: { ...pair }, slots: [...slots], publications: [...publications] };
}

async function write(sql: Sql, name: string): Promise<void> {
  await sql`INSERT INTO account (name, secret) VALUES (${name}, 'x')`;
  await sql`INSERT INTO audit (what) VALUES (${name})`;
  await sql`INSERT INTO loose VALUES (${name})`;
}

const namesIn = async (sql: Sql): Promise<string[]> =>
  (await sql<{ name: string }[]>`SELECT name FROM account ORDER BY id`).map(({ name }) => name);

/** Runs `look` on the server in `pgdata`, started by itself as a person would. */
async function standAlone(restored: Record<string, string>, look: (sql: Sql) => Promise<void>): Promise<void> {
  const { pgdata, bin_dir, dbname, port } = restored;
  const user = chooseUser({ pgdata });
  const control = async (...args: string[]) => {
    const ran = await runAs(user, join(bin_dir, "pg_ctl"), [
      "-D",
      pgdata,
      "-w",
      "-l",
      join(pgdata, "server.log"),
      ...args,
    ]);
    assert.equal(ran.status, 0, ran.output);
  };
  await control("start");
  // As anybody: without the name that the guard spares, and without the agent's own session settings.
  const sql = openPool({ host: pgdata, port: Number(port), user: "postgres", database: dbname }, {
    purpose: "test",
    max: 1,
    settings: { application_name: "application", default_transaction_read_only: "" },
  });
  try {
    await look(sql);
  } finally {
    await sql.end({ timeout: 1 });
    await control("stop", "-m", "fast");
  }
}

async function assertOfNobody(sql: Sql): Promise<void> {
  const [found] = await sql`SELECT to_regnamespace('ha') IS NULL AS gone,
    (SELECT count(*)::int FROM pg_event_trigger) AS events, (SELECT count(*)::int FROM pg_publication) AS publications,
    (SELECT count(*)::int FROM pg_trigger WHERE NOT tgisinternal) AS triggers,
    (SELECT count(*)::int FROM pg_replication_origin) AS origins,
    (SELECT count(*)::int FROM pg_replication_slots) AS slots,
    (SELECT string_agg(relreplident::text, '' ORDER BY relname) FROM pg_class
      WHERE relname IN ('account', 'audit', 'loose')) AS identities,
    (SELECT string_agg(seqincrement::text, ' ') FROM pg_sequence) AS increments,
    current_setting('default_transaction_read_only') AS read_only, pg_is_in_recovery() AS recovering`;
  assert.deepEqual({ ...found }, {
    gone: true,
    events: 0,
    publications: 0,
    triggers: 0,
    origins: 0,
    slots: 0,
    identities: "ddd",
    increments: "1 1",
    read_only: "off",
    recovering: false,
  });
}

scopedTest("backups of both nodes, restored alone and as a new pair", async (scope) => {
  const pair = await makePairWithRules(scope);
  const { primary, secondary, keyFile, binDir } = pair;
  const app = primary.app(pair.target);
  for (const name of ["a", "b", "c"]) await write(app, name);
  await primary.superuser`INSERT INTO ha.conflict (kind, schema_name, table_name, winner, why)
    VALUES ('cannot_apply', 'public', 'account', 'quarantined', 'a row that is nowhere else')`;
  await waitFor(async () => (await namesIn(secondary.superuser)).length === 3, {
    what: "the rows on the secondary",
    deadlineMs: 30_000,
  });
  const before = { primary: await pairState(primary), secondary: await pairState(secondary) };

  // While the application writes. Every row committed before the command is in it.
  let stop = false;
  const writing = (async () => {
    for (let n = 0; !stop; n++) await write(app, `during ${n}`);
  })();
  writing.catch(() => {}); // shown below
  const made = JSON.parse((await primary.agent(["backup", "--json"])).stdout);
  stop = true;
  await writing;
  assert.equal(join(primary.home, "backup", basename(made.file)), made.file);
  assert.match(basename(made.file), /^hapair-[\w.-]+-\d{8}T\d{9}Z\.zip$/);
  assert.equal(statSync(made.file).mode & 0o777, 0o600);
  assert.equal(statSync(join(primary.home, "backup")).mode & 0o777, 0o700);
  assert.deepEqual(made.backup, { node: primary.host, role: "primary" });
  assert.deepEqual([made.pair_id, made.generation], [before.primary.pair.pair_id, before.primary.pair.generation]);

  // Of the secondary, whose agent is gone; its PostgreSQL is not.
  secondary.killAgent();
  const other = join(scope.dir, "secondary backup.zip");
  await secondary.agent(["backup", other]);
  const bytes = readFileSync(other);
  const again = await secondary.agent(["backup", other], { expect: 3 });
  assert.match(again.stderr, /it is there already/);
  assert.ok(readFileSync(other).equals(bytes));
  secondary.start();
  await waitSteady(pair);
  assert.deepEqual({ primary: await pairState(primary), secondary: await pairState(secondary) }, before);
  await write(app, "after");
  await waitFor(async () => (await namesIn(secondary.superuser)).includes("after"), {
    what: "the pair to replicate as before",
    deadlineMs: 30_000,
  });

  // What it is, and what it is not.
  assert.match((await primary.agent(["pack", "inspect", other])).stdout, /^backup of +the secondary 127\.0\.0\.2;/);
  assert.match((await primary.agent(["pack", "verify", made.file])).stdout, /backup of the primary .*\d+ files/);
  const opened = await openCopy(made.file, readKeyFile(keyFile));
  assert.deepEqual([opened.pair, Object.keys(opened.shared).sort()], [null, ["rules", "settings"]]);
  await opened.close();
  const unused = join(scope.dir, "unused");
  const seeding = await runAgent(
    ["setup", "secondary", "--pack", other, "--pgdata", unused, "--key", keyFile, "--home", join(scope.dir, "none")],
  );
  assert.deepEqual([seeding.code, existsSync(unused)], [2, false]);
  assert.match(seeding.stderr, /it is a backup of 127\.0\.0\.2, not a pack/);
  chmodSync(keyFile, 0o644);
  const open = await primary.agent(["backup", join(scope.dir, "never.zip")], { expect: 2 });
  assert.match(open.stderr, /others may read it/);
  chmodSync(keyFile, 0o600);
  assert.deepEqual(readdirSync(scope.dir).filter((name) => /never|\.tmp$/.test(name)), []);

  // Restored alone. A backup that is damaged leaves nothing behind.
  const restore = (file: string, pgdata: string, expect: number) =>
    runAgent(["restore", file, "--pgdata", pgdata, "--key", keyFile, "--pg-bin", binDir, "--json"]).then((ran) => {
      assert.equal(ran.code, expect, ran.stderr);
      return ran;
    });
  const damaged = join(scope.dir, "damaged.zip");
  copyFileSync(made.file, damaged);
  const half = readFileSync(damaged);
  half[half.length >> 1] ^= 1;
  writeFileSync(damaged, half);
  await restore(damaged, join(scope.dir, "alone"), 2);
  assert.deepEqual(readdirSync(scope.dir).filter((name) => name.startsWith("alone")), []);
  const restored = JSON.parse((await restore(made.file, join(scope.dir, "alone"), 0)).stdout);
  assert.deepEqual(readdirSync(scope.dir).filter((name) => name.startsWith("alone")), ["alone"]);
  assert.equal(restored.conflicts_kept_in, "ha_before.conflict");
  await restore(made.file, restored.pgdata, 3);
  await primary.stop(); // its port is that of the backup
  await standAlone(restored, async (sql) => {
    await assertOfNobody(sql);
    const there = await namesIn(sql);
    assert.deepEqual(there.slice(0, 3), ["a", "b", "c"]);
    assert.ok(!there.includes("after"));
    const [{ why }] = await sql`SELECT why FROM ha_before.conflict`;
    assert.equal(why, "a row that is nowhere else");
    await write(sql, "alone");
    await sql`UPDATE account SET secret = 'y'`;
    await sql`DELETE FROM audit`;
  });
  primary.start();

  // The secondary's backup as a new pair.
  const second = await planPair(scope, { name: "two" });
  copyFileSync(keyFile, second.keyFile);
  await restore(other, second.primary.pgdata, 0);
  await setupPrimary(second);
  const [one, two] = [pair.primary, second.primary].map((node) => join(node.home, "conf", "tls", "node.crt"));
  assert.notEqual(readFileSync(one, "utf8"), readFileSync(two, "utf8"));
  second.primary.configure({ failover, node: { listen: second.primary.name } });
  second.primary.start();
  await second.primary.waitServing();
  const [fresh] = await second.primary.superuser`SELECT pair_id, generation, state, role, writable
    FROM ha.pair, ha.status`;
  assert.notEqual(fresh.pair_id, before.primary.pair.pair_id);
  assert.notEqual(fresh.generation, before.primary.pair.generation);
  assert.deepEqual([fresh.role, fresh.state, fresh.writable], ["primary", "serving", true]);
  await setupSecondary(second);
  second.secondary.configure({ failover, node: { listen: second.secondary.name } });
  second.secondary.start();
  await waitSteady(second);
  const password = pair.target.password; // the role is the backup's
  const client = second.primary.app({ ...pair.target, password });
  await write(client, "new pair");
  await waitFor(async () => (await namesIn(second.secondary.superuser)).includes("new pair"), {
    what: "the new pair to replicate",
    deadlineMs: 30_000,
  });
  const closed = second.secondary.app({ ...pair.target, password });
  await assert.rejects(write(closed, "no"), { code: "25006" });
  assert.deepEqual((await namesIn(second.primary.superuser)).slice(0, 3), ["a", "b", "c"]);
}, { timeoutMs: 600_000 });
