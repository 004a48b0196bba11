// What is for the primary only, with the worked example: refused on the secondary while it stands by and while it serves,
// by whatever way it is tried, with the rest of the application going on; and done on the primary, before and after.
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorCode, type Sql } from "../../agent/postgres/connect.ts";
import { waitEqual } from "../helpers/equality.ts";
import { makePair, waitSteady } from "../helpers/pair.ts";
import type { PairNode } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";
import { waitFor } from "../helpers/wait.ts";

const rules = `
[[primary_only]]
table = "vault.password"
columns = ["secret"]
operations = ["update"]
message = "password reset"

[[primary_only]]
table = "vault.password"
operations = ["delete", "truncate"]
message = "removing a password"

[[primary_only]]
table = "vault.share"
operations = ["insert", "delete", "truncate"]
message = "sharing an account"
`;
const wrong: [what: string, rules: string, says: RegExp][] = [
  ["an unknown table", rules.replace("vault.share", "vault.shares"), /\[\[primary_only\]\] 3 .*vault\.shares.*no such/],
  [
    "an unknown column",
    rules.replace('"secret"', '"secert"'),
    /\[\[primary_only\]\] 1 .*names secert, .*vault\.password/,
  ],
  ["columns without update", rules.replace('"update"', '"delete"'), /\[\[primary_only\]\] 1 .*columns goes with/],
];

const reset = "UPDATE vault.password SET secret = '\\x01' WHERE account_id = 1";
const refused: [statement: string, message: string][] = [
  [reset, "password reset"],
  ["UPDATE vault.password SET secret = secret, version = version + 1", "password reset"],
  [
    "INSERT INTO vault.password (account_id, secret) VALUES (1, '\\x01') " +
    "ON CONFLICT (account_id) DO UPDATE SET secret = EXCLUDED.secret",
    "password reset",
  ],
  [
    "MERGE INTO vault.password p USING (VALUES (1)) v (id) ON p.account_id = v.id " +
    "WHEN MATCHED THEN UPDATE SET secret = '\\x01'",
    "password reset",
  ],
  ["DELETE FROM vault.password WHERE account_id = 1", "removing a password"],
  ["TRUNCATE vault.password", "removing a password"],
  ["DELETE FROM vault.account WHERE id = 2", "removing a password"], // goes with it
  ["INSERT INTO vault.share SELECT 1, max(id) FROM vault.person", "sharing an account"],
  ["TRUNCATE vault.account CASCADE", "removing a password"],
];
/** What goes on meanwhile; each can be done again. */
const others = [
  "UPDATE vault.password SET expires_at = now() WHERE account_id = 1",
  "UPDATE vault.share SET may_change = NOT may_change",
  `WITH made AS (INSERT INTO vault.account (folder_id, owner_id, title, login) VALUES (1, 1, 'new', 'new') RETURNING id)
    INSERT INTO vault.audit (account_id, action) SELECT id, 'create' FROM made`,
  `INSERT INTO vault.password (account_id, secret) SELECT id, '\\x02' FROM vault.account a
    WHERE NOT EXISTS (SELECT FROM vault.password p WHERE p.account_id = a.id)
    ON CONFLICT (account_id) DO UPDATE SET secret = EXCLUDED.secret`,
  "UPDATE vault.person SET locked = NOT locked WHERE id = 1",
];

async function assertRefused(sql: Sql, statement: string, message: string): Promise<void> {
  const error = await sql.unsafe(statement).then(() => undefined, (error: Error) => error);
  assert.equal(error?.message, `${message} is available on the primary server only`, statement);
  assert.equal(errorCode(error), "HA001", statement);
}

async function waitRules(node: PairNode, tables: number): Promise<void> {
  await waitFor(async () => {
    const [{ due, made }] = await node.superuser`SELECT (SELECT count(*)::int FROM ha.table_due) AS due,
      (SELECT count(DISTINCT tgrelid)::int FROM pg_trigger WHERE tgname LIKE 'ha\\_for\\_primary\\_%') AS made`;
    return due === 0 && made === tables;
  }, { what: `the rules at the ${node.role}`, deadlineMs: 30_000 });
  const { alerts } = await node.status();
  assert.deepEqual(alerts.filter(({ name }) => name === "config" || name.startsWith("policies")), []);
}

scopedTest("a password is reset on the primary only", async (scope) => {
  const tomlOf = (node: PairNode) => join(node.home, "conf", "agent.toml");
  const pair = await makePair(scope, {
    load: async (sql, { primary }) => {
      await makeVault(sql);
      appendFileSync(tomlOf(primary), rules); // goes into the pack
    },
  });
  const { primary, secondary } = pair;
  await secondary.stop();
  await primary.stop();
  const good = readFileSync(tomlOf(primary), "utf8");
  for (const [what, bad, says] of wrong) {
    writeFileSync(tomlOf(primary), good.slice(0, good.indexOf("[[primary_only]]")) + bad);
    const ran = await primary.agent(["run"], { expect: 2, timeoutMs: 60_000 });
    assert.match(ran.stderr, says, what);
    assert.match(ran.stderr, /\nTry: \S/, what);
  }
  writeFileSync(tomlOf(primary), good);
  primary.start();
  secondary.start();
  await waitSteady(pair);
  await waitRules(secondary, 2);
  await waitRules(primary, 0);

  const atPrimary = primary.app(pair.target);
  for (const statement of others) await atPrimary.unsafe(statement);
  const version = await changePassword(atPrimary, 1, 1);
  // Standing by, a session as it comes hears from PostgreSQL itself that it may only read.
  const atSecondary = secondary.app(pair.target);
  await assert.rejects(atSecondary.unsafe(reset), { code: "25006" });
  const dodger = await atSecondary.reserve();
  await dodger`SET default_transaction_read_only = off`;
  await assertRefused(dodger as unknown as Sql, reset, "password reset");
  await assert.rejects(dodger.unsafe(others[0]), { code: "25006" });
  dodger.release();
  await waitEqual(primary.superuser, secondary.superuser);

  primary.kill();
  await secondary.waitServing();
  const serving = secondary.app(pair.target);
  for (const [statement, message] of refused) await assertRefused(serving, statement, message);
  for (const [statement, message] of refused) await assertRefused(secondary.superuser, statement, message);
  await assert.rejects(changePassword(serving, 1, 1), { code: "HA001" });
  for (const statement of others) await serving.unsafe(statement);

  primary.start();
  await waitSteady(pair);
  const back = primary.app(pair.target);
  assert.equal(await changePassword(back, 1, 1), version + 1);
  await back`DELETE FROM vault.account WHERE id = 2`;
  await waitEqual(primary.superuser, secondary.superuser);
}, { timeoutMs: 240_000 });
