// [[primary_only]] of agent.toml: what it may say, what is wrong with it given the tables, and what the database is told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, parseConfig } from "../../agent/config.ts";
import { UsageError } from "../../agent/errors.ts";
import { withoutEffect } from "../../agent/node/policies.ts";
import { checkPolicies, refuseBadPolicies } from "../../agent/policy_checks.ts";
import { primaryOnlyRules } from "../../agent/primary_only.ts";
import type { TableFacts } from "../../agent/table_policies.ts";

const config = (more: string): Config =>
  parseConfig(
    `[node]\nname = "a"\nrole = "primary"\n[peer]\nname = "b"\naddress = "b:1"\n[postgres]\npgdata = "/d"\n${more}`,
    "agent.toml",
  );
const section = (...keys: string[]) => `[[primary_only]]\n${keys.join("\n")}\n`;
/** One [[primary_only]] that is right but for what is said of it. */
const rule = (table: string, operations: string[], columns?: string[]) =>
  section(
    `table = "${table}"`,
    `operations = ${JSON.stringify(operations)}`,
    'message = "it"',
    ...columns ? [`columns = ${JSON.stringify(columns)}`] : [],
  );

function table(label: string, more: Partial<TableFacts> = {}): TableFacts {
  const [schema, name] = label.split(".");
  return { schema, name, label, root: null, parents: [], columns: ["id", "what"], primaryKey: ["id"], ...more };
}
const tables = [
  table("vault.password", { columns: ["id", "secret", "pin"] }),
  table("vault.passphrase", { columns: ["id", "secret", "sum"], generatedColumns: ["sum"] }),
  table("vault.log"),
  table("vault.log_1", { root: "vault.log", parents: ["vault.log"] }),
];

test("agent.toml: what a rule may not say, by entry and key", () => {
  const message = 'message = "it"', all = 'table = "a.b"';
  const update = 'operations = ["update"]';
  const wrong: [string, RegExp][] = [
    [section(update, message), /\[\[primary_only\]\] 1: table/],
    [section(all, message), /\[\[primary_only\]\] 1 \(table = "a\.b"\): operations/],
    [section(all, update), /: message/],
    [section(all, "operations = []", message), /: operations/],
    [section(all, 'operations = ["select"]', message), /: operations\.0: .*insert.*truncate/],
    [section(all, update, message, "columns = []"), /: columns/],
    [section(all, update, message, 'columns = [""]'), /: columns\.0/],
    [rule("a.b", ["insert"], ["c"]), /a\.b.*columns goes with operations = \["update"\] only/],
    [rule("a.b", ["update", "delete"], ["c"]), /columns goes with operations = \["update"\] only/],
    [rule("a.b", ["update"]) + rule("a.c", ["delete"], ["c"]), /\[\[primary_only\]\] 2 \(table = "a\.c"\)/],
    [section(all, update, 'message = ""'), /: message/],
    [section(all, update, 'message = "two\\nlines"'), /message: must be one line/],
    [section(all, update, 'message = "it "'), /message: must be one line, with no space around/],
    [section(all, update, 'message = "nul\\u0000"'), /message: must be one line/],
    [section(all, update, 'message = "reset is available on the primary server only"'), /is added/],
    [section(all, update, message, 'policy = "x"'), /policy/],
  ];
  for (const [text, says] of wrong) {
    assert.throws(() => config(text), (error) => {
      assert.ok(error instanceof UsageError, text);
      assert.match(error.message, says, text);
      return true;
    });
  }
  for (const right of ["password reset", "x", "das Zurücksetzen des Kennworts", "100% of 'it'"]) {
    assert.equal(config(section(all, update, `message = "${right}"`)).primary_only[0].message, right);
  }
});

const right: [what: string, text: string][] = [
  ["a column", rule("vault.password", ["update"], ["secret"])],
  ["columns that some tables of a pattern have", rule("vault.*", ["update"], ["secret", "what"])],
  ["a table, all operations", rule("vault.password", ["insert", "update", "delete", "truncate"])],
  ["several about one table", rule("vault.password", ["update"], ["secret"]) + rule("vault.password", ["delete"])],
  ["a column and the whole", rule("vault.password", ["update"], ["secret"]) + rule("vault.password", ["update"])],
  ["two columns", rule("vault.password", ["update"], ["secret"]) + rule("vault.password", ["update"], ["pin"])],
];
const wrong: [what: string, text: string, says: RegExp[]][] = [
  ["no such table", rule("vault.pasword", ["update"]), [
    /^\[\[primary_only\]\] 1 \(table = "vault\.pasword"\): there is no such table$/,
  ]],
  ["no schema", rule("password", ["update"]), [/schema and name are needed; did you mean "vault\.password"\?/]],
  ["a pattern that waits", rule("later.*", ["update"], ["x"]), [/^alarm .*later.*no such table yet/]],
  ["no such column", rule("vault.password", ["update"], ["secret", "secert"]), [
    /^\[\[primary_only\]\] 1 .*columns names secert, which vault\.password has not$/,
  ]],
  ["a column of none of many", rule("vault.pass*", ["update"], ["what"]), [/what, which none of its tables has/]],
  ["a generated column", rule("vault.passphrase", ["update"], ["sum"]), [
    /names what is never set, but generated: sum$/,
  ]],
  [
    "twice the same",
    rule("vault.password", ["update", "delete"]) + rule("vault.password", ["delete", "insert"]),
    [/^\[\[primary_only\]\] 2 .*\[\[primary_only\]\] 1 is about the same/],
  ],
  [
    "a column twice",
    rule("vault.password", ["update"], ["pin"]) + rule("vault.password", ["update"], ["secret", "pin"]),
    [/^\[\[primary_only\]\] 2 .*\[\[primary_only\]\] 1 is about the same/],
  ],
  [
    "with a [[table]] that is wrong: all are told",
    '[[table]]\nmatch = "vault.x"\npolicy = "primary_wins"\n' + rule("vault.y", ["update"]),
    [/^\[\[table\]\] 1/, /^\[\[primary_only\]\] 1/],
  ],
];

for (const [what, text] of right) {
  test(`rules that are right: ${what}`, () => assert.deepEqual(checkPolicies(config(text), tables), []));
}

for (const [what, text, says] of wrong) {
  test(`rules that are wrong: ${what}`, () => {
    const found = checkPolicies(config(text), tables);
    const told = found.map(({ severity, message }) => (severity === "alarm" ? "alarm " : "") + message);
    assert.equal(told.length, says.length, told.join("\n"));
    says.forEach((pattern, at) => assert.match(told[at], pattern));
    for (const { remedy } of found) assert.match(remedy, /\S/);
  });
}

test("a wrong rule is refused as wrong policies are; without any table names are not judged", () => {
  const all = config(rule("vault.password", ["update"], ["secert"]));
  assert.throws(() => refuseBadPolicies(all, tables, "rules.toml"), (error) => {
    assert.ok(error instanceof UsageError);
    assert.equal(error.exitCode, 2);
    assert.match(error.message, /^Cannot use rules\.toml: \[\[primary_only\]\] 1 .*secert/);
    return true;
  });
  refuseBadPolicies(all, [], "rules.toml");
});

test("rules are enforced: nobody is told that they are not", () => {
  assert.deepEqual(withoutEffect(config(rule("vault.password", ["update"]))), []);
});

test("what the database is told: each operation and column of each table that a rule names itself", () => {
  const told = (text: string) =>
    primaryOnlyRules(config(text), tables).map(({ schema, table, position, operation, column, message }) =>
      [schema, table, position, operation, column, message].join(" ")
    );
  assert.deepEqual(told(rule("vault.pass*", ["update", "update"], ["secret", "pin", "secret"])), [
    "vault password 1 update secret it",
    "vault password 1 update pin it",
    "vault passphrase 1 update secret it",
    "vault passphrase 1 update pin it",
  ]);
  assert.deepEqual(told(rule("later.*", ["update"]) + rule("vault.log", ["insert", "truncate"])), [
    "vault log 2 insert  it",
    "vault log 2 truncate  it",
  ]);
});
