// An operator holds the merge, lets both sides write apart from each other, rehearses the merge and lets it happen: the
// rehearsal changes nothing, and says exactly what the merge then logs.
import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { Rehearsal } from "../../agent/review/rehearsed.ts";
import { sumTable, userTables, waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, type Pair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

const policies = `
[[table]]
match = "public.event"
policy = "append_only"

[[table]]
match = "public.account"
secret = ["name"]
`;

/** Everything that a rehearsal must leave as it is. */
async function everythingOf({ superuser }: PairNode) {
  const tables = [...await userTables(superuser), "ha.conflict", "ha.progress"];
  const sums = await Promise.all(tables.map(async (table) => [table, await sumTable(superuser, table)]));
  const sequences = await superuser`SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2`;
  const [slot] = await superuser`SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots`;
  return { sums, sequences: [...sequences], confirmed: slot?.lsn };
}

const inOrder = (lines: string[]): string[] => lines.sort();

/** What is foretold and what is logged, in one form; keys of secret columns are masked in the one. */
const foretold = ({ conflicts }: Rehearsal): string[] =>
  inOrder(
    conflicts.map(({ kind, table, key, winner, quarantined }) =>
      JSON.stringify([kind, table, table === "public.account" ? {} : key, winner, quarantined])
    ),
  );

async function logged({ superuser }: PairNode): Promise<string[]> {
  const rows =
    await superuser`SELECT kind, schema_name || '.' || table_name AS table, row_key AS key, winner, quarantined
    FROM ha.conflict`;
  return inOrder(
    rows.map(({ kind, table, key, winner, quarantined }) =>
      JSON.stringify([kind, table, table === "public.account" ? {} : key, winner, quarantined])
    ),
  );
}

async function dryRun(node: PairNode, ...more: string[]): Promise<Rehearsal> {
  return JSON.parse((await node.agent(["merge", "--dry-run", "--json", ...more])).stdout);
}

const alertOf = async (node: PairNode) => (await node.status()).alerts.find(({ name }) => name === "merge_held");

/** Each side writes what it would in a split; the pauses let commit times order what is meant to follow. */
async function writeApart({ primary, secondary, target }: Pair): Promise<void> {
  const [a, b] = [primary.app(target), secondary.app(target)];
  await a`UPDATE doc SET v = 'primary' WHERE id = 1`;
  await b`UPDATE doc SET v = 'secondary' WHERE id IN (2, 7)`;
  await a`DELETE FROM doc WHERE id = 3`;
  await b`DELETE FROM doc WHERE id = 4`;
  await a`INSERT INTO doc VALUES (201, 'primary')`;
  await a`INSERT INTO login VALUES (11, 'ann'), (13, 'only the primary''s')`;
  await a`DELETE FROM parent WHERE id = 1`;
  await a`INSERT INTO event (id, what) VALUES (1001, 'primary')`;
  await a`UPDATE account SET balance = 1`;
  await pause(50);
  await b`UPDATE doc SET v = 'secondary' WHERE id IN (1, 3, 7)`;
  await a`UPDATE doc SET v = 'primary' WHERE id IN (2, 4, 7)`;
  await b`INSERT INTO doc VALUES (201, 'secondary'), (203, 'no conflict')`;
  await b`INSERT INTO login VALUES (12, 'ann')`;
  await b`INSERT INTO child VALUES (1, 1), (2, 2)`;
  await b`INSERT INTO event (id, what) VALUES (1001, 'secondary')`;
  await b`UPDATE account SET balance = 2`;
}

const expected = inOrder([
  ["update_origin_differs", "public.doc", { id: "1" }, "secondary", false],
  ["update_origin_differs", "public.doc", { id: "2" }, "primary", false],
  ["update_deleted", "public.doc", { id: "3" }, "secondary", false],
  ["delete_origin_differs", "public.doc", { id: "4" }, "primary", false],
  ["update_origin_differs", "public.doc", { id: "7" }, "primary", false],
  ["update_origin_differs", "public.doc", { id: "7" }, "primary", false],
  ["insert_exists", "public.doc", { id: "201" }, "secondary", false],
  ["insert_exists", "public.login", { id: "11" }, "secondary", true],
  ["foreign_key_dangling", "public.child", { id: "1" }, "primary", true],
  ["insert_exists", "public.event", { id: "1001" }, "both", false],
  ["update_origin_differs", "public.account", {}, "secondary", false],
].map((each) => JSON.stringify(each)));

scopedTest("a held merge is rehearsed without a trace, and happens as the rehearsal said", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql, { primary }) => {
      appendFileSync(join(primary.home, "conf", "agent.toml"), policies);
      await sql`CREATE TABLE doc (id int PRIMARY KEY, v text)`;
      await sql`INSERT INTO doc SELECT n, 'old' FROM generate_series(1, 100) n`;
      await sql`CREATE TABLE login (id int PRIMARY KEY, name text UNIQUE)`;
      await sql`CREATE TABLE parent (id int PRIMARY KEY)`;
      await sql`INSERT INTO parent VALUES (1), (2)`;
      await sql`CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent)`;
      await sql`CREATE TABLE event (id serial PRIMARY KEY, what text)`;
      await sql`CREATE TABLE account (name text PRIMARY KEY, balance int)`;
      await sql`INSERT INTO account VALUES ('very secret', 0)`;
    },
  });
  const { primary, secondary, link } = pair;
  assert.equal((await primary.agent(["merge", "--dry-run"])).stdout, "Nothing is waiting to be merged.\n");

  await primary.agent(["merge", "--hold"]);
  const held = JSON.parse((await primary.agent(["merge", "--hold", "--json"])).stdout);
  assert.match(await alertOf(primary).then((alert) => alert!.message), new RegExp(`held since ${held.held_since}`));
  await primary.agent(["merge", "--dry-run", "--release"], { expect: 2 });
  link.cut();
  await secondary.waitServing();
  await writeApart(pair);
  const cut = await primary.agent(["merge", "--dry-run"], { expect: 4 });
  assert.match(cut.stderr, /^Cannot reach 127.*\nTry: /);

  link.heal();
  const serves = (status: { node: { state: string; writable: boolean } }) =>
    status.node.state === "handing_back" && status.node.writable;
  await secondary.waitStatus("serving still, with its primary in sight", serves);
  const refused = await secondary.agent(["merge", "--dry-run"], { expect: 3 });
  assert.match(
    refused.stderr,
    /^Cannot rehearse the merge here: only the primary decides\nTry: run it on 127\.0\.0\.1/,
  );

  // What the primary wrote comes to the secondary all the same: it must be there before the two looks are compared.
  const [{ end }] = await primary.superuser<{ end: string }[]>`SELECT pg_current_wal_insert_lsn()::text AS end`;
  await waitFor(
    async () => (await secondary.superuser`SELECT FROM ha.progress WHERE applied_lsn >= ${end}::pg_lsn`).length > 0,
    { what: "the primary's changes at the secondary", deadlineMs: 60_000 },
  );
  const before = [await everythingOf(primary), await everythingOf(secondary)];
  const rehearsal = await dryRun(primary);
  assert.deepEqual(foretold(rehearsal), expected);
  assert.equal(rehearsal.conflicts.find(({ table }) => table === "public.account")!.key.name, "********");
  assert.equal(rehearsal.held, true);
  assert.equal(rehearsal.changes, 13, "2 + 1 + 3 + 2 + 1 + 2 + 1 + 1 changes of the secondary");
  const text = (await primary.agent(["merge", "--dry-run", "--limit", "3"])).stdout;
  assert.match(text, /^8 transactions with 13 changes are waiting to be merged\./);
  assert.match(text, /^public\.login +insert_exists +1 +0 +1 +0 +1$/m);
  assert.match(text, /and 8 more: see --limit/);
  assert.doesNotMatch(text, /very secret/);
  assert.deepEqual([await everythingOf(primary), await everythingOf(secondary)], before, "nothing was changed");

  // Somebody holds a row that the rehearsal needs: a second one is refused, one whose time is up leaves no lock behind.
  const blocker = await primary.superuser.reserve();
  await blocker`BEGIN`;
  await blocker`SELECT FROM doc WHERE id = 1 FOR UPDATE`;
  const waits = () =>
    waitFor(async () =>
      (await primary.superuser`SELECT FROM pg_stat_activity
      WHERE application_name = 'hapair apply' AND wait_event_type = 'Lock'`).length === 1, {
      what: "the rehearsal to wait for the row",
      deadlineMs: 10_000,
    });
  const first = primary.agent(["merge", "--dry-run", "--timeout", "3"], { expect: 1 });
  await waits();
  const second = await primary.agent(["merge", "--dry-run"], { expect: 3 });
  assert.match(second.stderr, /another rehearsal runs/);
  assert.match((await first).stderr, /not done within 3 s; nothing was changed/);
  assert.deepEqual(
    [...await primary.superuser`SELECT FROM pg_locks WHERE relation = 'login'::regclass`],
    [],
    "no lock is left",
  );
  // Whoever asked does not wait any more: then it is over as well.
  const interrupted = primary.agent(["merge", "--dry-run"], { timeoutMs: 3000 });
  await waits();
  await assert.rejects(interrupted, /did not end within/);
  await waitFor(async () => !(await primary.agent(["merge", "--json"])).stdout.includes('"rehearsing": true'), {
    what: "the end of the rehearsal",
    deadlineMs: 5000,
  });
  const third = primary.agent(["merge", "--dry-run", "--json"]);
  await waits();
  await blocker`ROLLBACK`;
  blocker.release();
  assert.deepEqual(foretold(JSON.parse((await third).stdout)), expected);

  await primary.app(pair.target)`UPDATE doc SET v = 'after it' WHERE id IN (50, 1001)`;
  await primary.app(pair.target)`INSERT INTO event (what) VALUES ('after it')`;
  await secondary.app(pair.target)`UPDATE doc SET v = 'after it' WHERE id = 51`;

  // A primary that starts under a hold waits for its release, and the secondary serves on.
  await primary.stop();
  primary.start();
  await primary.waitState("catching_up");
  await secondary.waitStatus("serving still", serves);
  assert.match(
    await alertOf(primary).then((alert) => alert!.message),
    /so 127\.0\.0\.1 does not serve.*agent merge --release$/,
  );
  assert.match((await secondary.status()).alerts.map(({ message }) => message).join(), /the primary holds the merge/);
  await secondary.app(pair.target)`UPDATE doc SET v = 'after it' WHERE id = 52`;
  assert.match(
    (await primary.agent(["merge"])).stdout,
    /^The merge is held since .*\n.* of its WAL wait to be read\.$/m,
  );
  assert.deepEqual(foretold(await dryRun(primary)), expected);
  assert.deepEqual(await logged(primary), []);

  await primary.agent(["merge", "--release"]);
  await primary.agent(["merge", "--release"]);
  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await logged(primary), expected);
  assert.deepEqual(await logged(secondary), expected);
  assert.equal(await alertOf(primary), undefined);
  assert.equal((await primary.agent(["merge", "--dry-run"])).stdout, "Nothing is waiting to be merged.\n");
  assert.match((await primary.agent(["merge"])).stdout, /^The merge is not held: .*\nNothing is waiting\.\n$/);
  await assertNoLeaks(pair);
}, { timeoutMs: 240_000 });
