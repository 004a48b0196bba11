// Policies that cannot be meant so are refused by setup and by run, with the file, the entry and what to do; rules that
// are not the same on both nodes are an alarm on both; and what is right is enforced on both.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "smol-toml";
import { errorCode } from "../../agent/postgres/connect.ts";
import { makePair, type Pair, planPair, setupPrimary, waitSteady } from "../helpers/pair.ts";
import type { PairNode, Ran } from "../helpers/pair_node.ts";
import { postmasterPid } from "../helpers/processes.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

const tomlOf = (node: PairNode) => join(node.home, "conf", "agent.toml");

/** Puts sections of rules in the place of those that are in agent.toml. */
function setRules(node: PairNode, rules: string): void {
  const { merge: _merge, table: _table, ...rest } = parse(readFileSync(tomlOf(node), "utf8"));
  writeFileSync(tomlOf(node), stringify({ ...rest, ...parse(rules) }));
}

const entry = (match: string, ...keys: string[]) => `[[table]]\nmatch = "${match}"\n${keys.join("\n")}\n`;

/** Wrong by themselves, whatever the tables. */
const contradictions: [what: string, rules: string, says: RegExp][] = [
  [
    "an unknown policy",
    entry("vault.note", 'policy = "newest_wins"'),
    /\[\[table\]\] 1 .*vault\.note.*last_update_wins/,
  ],
  ["an unknown default", `[merge]\ndefault = "newest_wins"\n`, /merge\.default.*last_update_wins/],
  ["an entry that says nothing", entry("vault.note"), /\[\[table\]\] 1 .*at least one of/],
  [
    "the same match twice",
    entry("vault.*", 'policy = "primary_wins"') + entry("vault.*", 'policy = "secondary_wins"'),
    /\[\[table\]\] 2 .*\[\[table\]\] 1 has the same match/,
  ],
  [
    "append_only, and what becomes of deletes",
    entry("vault.audit", 'policy = "append_only"', 'deletes = "delete_wins"'),
    /\[\[table\]\] 1 .*deletes/,
  ],
];
/** Wrong with the tables that there are. */
const misfits: [what: string, rules: string, says: RegExp][] = [
  ["an unknown table", entry("vault.audti", 'policy = "append_only"'), /\[\[table\]\] 1 .*vault\.audti.*no such table/],
  ["a table without its schema", entry("audit", 'policy = "append_only"'), /did you mean "vault\.audit"\?/],
  [
    "an entry that an earlier one makes useless",
    entry("vault.*", 'policy = "primary_wins"') + entry("vault.audit", 'policy = "append_only"'),
    /\[\[table\]\] 2 .*vault\.audit.*\[\[table\]\] 1 .*vault\.\*/,
  ],
  ["merge_columns without a key", entry("vault.bare", 'policy = "merge_columns"'), /vault\.bare.*none/],
  ["append_only without a key", entry("vault.bare", 'policy = "append_only"'), /vault\.bare.*none/],
  ["a secret column that is not there", entry("vault.note", 'secret = ["txet"]'), /secret names txet.*vault\.note/],
];

function assertRefused(ran: Ran, says: RegExp, what: string): void {
  const lines = ran.stderr.trim().split("\n");
  const at = lines.findIndex((line) => line.startsWith("Cannot use "));
  assert.equal(ran.code, 2, `${what}: ${ran.stderr}`);
  assert.match(lines[at] ?? "", says, `${what}: ${ran.stderr}`);
  assert.match(lines[at + 1] ?? "", /^Try: \S/, `${what}: ${ran.stderr}`);
  assert.equal(lines.length, at + 2, `${what}: no stack trace: ${ran.stderr}`);
}

const tables = `CREATE SCHEMA vault;
  CREATE TABLE vault.audit (id int PRIMARY KEY, what text);
  CREATE TABLE vault.note (id int PRIMARY KEY, text text);
  CREATE TABLE vault.bare (what text)`;

scopedTest("setup and run refuse policies that cannot be meant so, and change nothing", async (scope) => {
  const pair = await planPair(scope);
  const { primary } = pair;
  const rulesFile = join(scope.dir, "rules.toml");
  const setup = async (rules: string) => {
    writeFileSync(rulesFile, rules);
    return await primary.agent([
      ...["setup", "primary", primary.name, pair.secondary.name, "--pgdata", primary.pgdata],
      ...["--pg-bin", pair.binDir, "--pg-port", String(primary.pgPort), "--dbname", "app"],
      ...["--key", pair.keyFile, "--create-key", "--config", rulesFile],
    ], { expect: 2 });
  };
  for (const [what, rules, says] of contradictions) {
    const ran = await setup(rules);
    assertRefused(ran, says, what);
    assert.ok(ran.stderr.includes(rulesFile), `${what}: the file is named`);
    assert.ok(!existsSync(primary.home) && !existsSync(primary.pgdata), `${what}: nothing was made`);
    assert.ok(!existsSync(pair.keyFile), `${what}: no key either`);
  }

  await setupPrimary(pair);
  primary.start();
  await primary.waitServing();
  await primary.superuser.unsafe(tables);
  await primary.stop();
  const good = readFileSync(tomlOf(primary), "utf8");
  const files = () => readdirSync(primary.home, { recursive: true, encoding: "utf8" }).sort().join("\n");
  const before = files();
  const pack = readFileSync(join(primary.home, "replication", "HAPack.zip"));
  for (const [what, rules, says] of misfits) {
    const ran = await setup(rules);
    assertRefused(ran, says, what);
    assert.ok(ran.stderr.includes(rulesFile), `${what}: the file is named`);
    assert.equal(readFileSync(tomlOf(primary), "utf8"), good, `${what}: agent.toml is as it was`);
    assert.equal(postmasterPid(primary.pgdata), undefined, `${what}: PostgreSQL is stopped again`);
  }
  assert.equal(files(), before);
  assert.deepEqual(readFileSync(join(primary.home, "replication", "HAPack.zip")), pack);

  for (const [what, rules, says] of [...contradictions.slice(3), ...misfits.slice(0, 3)]) {
    setRules(primary, rules);
    const ran = await primary.agent(["run"], { expect: 2, timeoutMs: 60_000 });
    assertRefused(ran, says, `run: ${what}`);
    assert.ok(ran.stderr.includes(tomlOf(primary)), `run: ${what}: the file is named`);
    assert.equal(postmasterPid(primary.pgdata), undefined, `run: ${what}: PostgreSQL is stopped again`);
  }
  writeFileSync(tomlOf(primary), good);
  primary.start();
  await primary.waitServing();
  const [{ open }] = await primary
    .superuser`SELECT count(*)::int AS open FROM ha.policy WHERE rows <> 'last_update_wins'`;
  assert.equal(open, 0, "of what was refused nothing is left");
}, { timeoutMs: 240_000 });

/** Waits until the node's alarm of that name is there, or gone. */
async function waitAlarm(node: PairNode, name: string, there: boolean): Promise<string> {
  const status = await node.waitStatus(
    `${there ? "with" : "without"} the alarm ${name}`,
    (s) => s.alerts.some((alert) => alert.name === name) === there,
  );
  return status.alerts.find((alert) => alert.name === name)?.message ?? "";
}

async function restart({ primary, secondary }: Pair, change: () => void): Promise<void> {
  await secondary.stop();
  await primary.stop();
  change();
  primary.start();
  secondary.start();
}

scopedTest("policies are enforced on both nodes, and compared between them", async (scope) => {
  const pair = await makePair(scope, { load: async (app) => void await app.unsafe(tables) });
  const { primary, secondary } = pair;
  const rules = entry("vault.audit*", 'policy = "append_only"') + entry("vault.note", 'policy = "merge_columns"') +
    entry("later.*", 'policy = "primary_wins"');
  await restart(pair, () => setRules(primary, rules));
  for (const node of [primary, secondary]) {
    const message = await waitAlarm(node, "policies_differ", true);
    assert.ok(message.includes(primary.host) && message.includes(secondary.host), message);
    assert.match(message, /\[\[table\]\].*Try: .*restart/);
  }
  await waitAlarm(primary, "policies", true); // later.* has no tables yet
  await restart(pair, () => setRules(secondary, rules));
  await waitSteady(pair);
  for (const node of [primary, secondary]) await waitAlarm(node, "policies_differ", false);

  const app = primary.app(pair.target);
  await app`INSERT INTO vault.audit VALUES (1, 'a')`;
  const refused = (change: Promise<unknown>) => assert.rejects(change, (error) => errorCode(error) === "HA002");
  await refused(app`UPDATE vault.audit SET what = 'b'`);
  await refused(primary.superuser`TRUNCATE vault.audit`);
  // The applier is not refused, nor does the trigger keep rows from coming.
  const identities = async (node: PairNode) =>
    (await node.superuser`SELECT schema_name || '.' || table_name || ' ' || identity::text ||
      CASE append_only WHEN 'O' THEN '+' ELSE '' END AS is FROM ha.user_table ORDER BY 1`).map(({ is }) => is).join(
      ", ",
    );
  const wanted = "vault.audit d+, vault.bare f, vault.note f";
  for (const node of [primary, secondary]) {
    await waitFor(async () => await identities(node) === wanted, {
      what: `${wanted} at the ${node.role}`,
      deadlineMs: 30_000,
    });
  }
  await waitFor(async () => (await secondary.superuser`SELECT FROM vault.audit`).length === 1, {
    what: "the audit row at the secondary",
    deadlineMs: 30_000,
  });

  // Tables made later are looked after while the pair runs.
  await app.unsafe("CREATE TABLE vault.audit_2 (id int PRIMARY KEY); CREATE SCHEMA later");
  await app.unsafe("CREATE TABLE later.price (id int PRIMARY KEY)");
  await waitAlarm(primary, "policies", false);
  await waitFor(async () => (await identities(primary)).includes("vault.audit_2 d+"), {
    what: "the new table to be append_only",
    deadlineMs: 30_000,
  });
  await refused(app`DELETE FROM vault.audit_2`);
}, { timeoutMs: 240_000 });
