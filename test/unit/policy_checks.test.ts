// What is wrong with policies, seen with the tables that there are: refused, alarmed or right.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Config, parseConfig } from "../../agent/config.ts";
import { UsageError } from "../../agent/errors.ts";
import { checkPolicies, refuseBadPolicies } from "../../agent/policy_checks.ts";
import { rowsPolicies, type TableFacts } from "../../agent/table_policies.ts";

const config = (more: string): Config =>
  parseConfig(
    `[node]\nname = "a"\nrole = "primary"\n[peer]\nname = "b"\naddress = "b:1"\n[postgres]\npgdata = "/d"\n${more}`,
    "agent.toml",
  );
/** One [[table]]. */
const entry = (match: string, ...keys: string[]) => `[[table]]\nmatch = "${match}"\n${keys.join("\n")}\n`;
const policy = (name: string) => `policy = "${name}"`;

function table(label: string, more: Partial<TableFacts> = {}): TableFacts {
  const [schema, name] = label.split(".");
  const facts = { root: null, parents: [], columns: ["id", "what"], primaryKey: ["id"] };
  return { schema, name, label, ...facts, ...more };
}
const partOf = (root: string) => ({ root, parents: [root] });
const tables = [
  table("public.account", { columns: ["id", "password", "pin"] }),
  table("public.bare", { primaryKey: [] }),
  table("odd.virtual", { virtualColumns: ["sum"] }),
  table("vault.audit"),
  table("vault.audit_old"),
  table("vault.Mixed"),
  table("vault.log"),
  table("vault.log_1", partOf("vault.log")),
  table("vault.log_2", partOf("vault.log")),
];

type Row = [what: string, text: string, says: (RegExp | string)[]];

/** `says`: what the problems say, in their order; an alarm's words begin with "alarm". */
const right: [what: string, text: string][] = [
  ["nothing", ""],
  ["by name", entry("vault.audit", policy("append_only"))],
  ["by pattern", entry("vault.audit*", policy("append_only"))],
  ["a root, for its partitions too", entry("vault.log", policy("append_only"))],
  ["a partition of its own", entry("vault.log_1", policy("primary_wins"))],
  ["the narrower first", entry("vault.audit", policy("append_only")) + entry("vault.*", policy("primary_wins"))],
  [
    "the wider first, saying the same",
    entry("vault.*", policy("primary_wins")) + entry("vault.audit", policy("primary_wins")),
  ],
  ["append_only with a policy of unique keys", entry("vault.audit", policy("append_only"), 'unique = "primary_wins"')],
  ["secret columns", entry("public.account", 'secret = ["password", "pin"]')],
  ["secret columns that one of the tables has", entry("public.*", 'secret = ["password"]')],
  ["merge_columns, with a key", entry("public.account", policy("merge_columns"))],
  [
    "a default that needs a key, and an entry for who has none",
    `[merge]\ndefault = "merge_columns"\n` + entry("public.bare", policy("primary_wins")),
  ],
];

const wrong: Row[] = [
  ["no such table", entry("vault.audti", policy("append_only")), [
    /^\[\[table\]\] 1 \(match = "vault\.audti"\): there is no/,
  ]],
  ["no schema", entry("account", policy("primary_wins")), [
    /schema and name are needed; did you mean "public\.account"\?/,
  ]],
  ["another schema", entry("public.audit", policy("append_only")), [/no such table; did you mean "vault\.audit"\?/]],
  ["other letters", entry("vault.mixed", policy("primary_wins")), [/did you mean "vault\.Mixed"\?/]],
  ["a pattern that waits", entry("later.*", policy("primary_wins")), [/^alarm .*later.*no such table yet/]],
  [
    "the same match twice",
    entry("vault.audit", policy("append_only")) + entry("vault.audit", policy("primary_wins")),
    [/\[\[table\]\] 2 .*\[\[table\]\] 1 has the same match/],
  ],
  [
    "the wider first, by name",
    entry("vault.*", policy("primary_wins")) + entry("vault.audit", policy("append_only")),
    [/\[\[table\]\] 2 \(match = "vault\.audit"\): it never counts, as \[\[table\]\] 1 \(match = "vault\.\*"\)/],
  ],
  [
    "the wider first, by pattern",
    entry("vault.*", policy("primary_wins")) + entry("vault.audit*", 'secret = ["what"]'),
    [/\[\[table\]\] 2 .* never counts/],
  ],
  [
    "all tables of a pattern are taken, but others may come",
    entry("public.account", policy("primary_wins")) + entry("public.bare", policy("primary_wins")) +
    entry("public.*", policy("secondary_wins")),
    [/^alarm \[\[table\]\] 3 .*counts for no table now/],
  ],
  [
    "append_only and deletes",
    entry("vault.audit", policy("append_only"), 'deletes = "delete_wins"'),
    [/\[\[table\]\] 1 .*deletes = "delete_wins".*none are deleted/],
  ],
  [
    "append_only by default, and deletes",
    `[merge]\ndefault = "append_only"\n` + entry("vault.audit", 'deletes = "delete_wins"'),
    [/none are deleted/, /^alarm \[merge\]: .*public\.bare/],
  ],
  ["append_only without a key", entry("public.bare", policy("append_only")), [
    /needs a primary key.*public\.bare has none/,
  ]],
  [
    "merge_columns without a key, by a pattern",
    entry("public.*", policy("merge_columns")),
    [/merge_columns needs a primary key.*public\.bare has none/],
  ],
  ["merge_columns with a virtual column", entry("odd.virtual", policy("merge_columns")), [
    /REPLICA IDENTITY FULL.*odd\.virtual/,
  ]],
  ["a default that needs a key", `[merge]\ndefault = "merge_columns"`, [/^alarm \[merge\].*public\.bare/]],
  [
    "a secret that is nowhere",
    entry("public.account", 'secret = ["password", "pni"]'),
    [/secret names pni, which public\.account has not/],
  ],
  [
    "a secret that none of many has",
    entry("vault.*", 'secret = ["password"]'),
    [/secret names password, which none of its tables has/],
  ],
  [
    "a partition alone is append_only",
    entry("vault.log_1", policy("append_only")),
    [/vault\.log_1 is a part of vault\.log, which is not append_only/],
  ],
  [
    "several, the errors first",
    entry("later.*", policy("primary_wins")) + entry("vault.x", policy("primary_wins")) +
    entry("y", policy("primary_wins")),
    [/vault\.x/, /"y"/, /^alarm .*later/],
  ],
];

for (const [what, text] of right) {
  test(`policies that are right: ${what}`, () => assert.deepEqual(checkPolicies(config(text), tables), []));
}

for (const [what, text, says] of wrong) {
  test(`policies that are wrong: ${what}`, () => {
    const found = checkPolicies(config(text), tables);
    const told = found.map(({ severity, message }) => (severity === "alarm" ? "alarm " : "") + message);
    assert.equal(told.length, says.length, told.join("\n"));
    says.forEach((pattern, at) => assert.match(told[at], pattern as RegExp));
    for (const { remedy } of found) assert.match(remedy, /\S/);
  });
}

test("without any table names are not judged: the application has still to make them", () => {
  const all = config(entry("vault.audit", policy("append_only"), 'secret = ["what"]'));
  assert.deepEqual(checkPolicies(all, []).map(({ severity }) => severity), ["alarm"]);
  refuseBadPolicies(all, [], "agent.toml");
});

test("refused: one line that names the file and every error, and what to do", () => {
  const all = config(entry("audit", policy("append_only")) + entry("vault.x", policy("primary_wins")));
  assert.throws(() => refuseBadPolicies(all, tables, "/etc/rules.toml"), (error) => {
    assert.ok(error instanceof UsageError);
    assert.equal(error.exitCode, 2);
    assert.match(
      error.message,
      /^Cannot use \/etc\/rules\.toml: \[\[table\]\] 1 .*vault\.audit.*; \[\[table\]\] 2 .*vault\.x/,
    );
    assert.ok(!error.message.includes("\n") && !error.remedy.includes("\n"));
    assert.match(error.remedy, /schema and name/);
    return true;
  });
});

test("many tables are not all named", () => {
  const many = Array.from({ length: 30 }, (_, i) => table(`a.t${i}`, { primaryKey: [] }));
  const [{ message }] = checkPolicies(config(entry("a.*", policy("append_only"))), many);
  assert.match(message, /a\.t0, a\.t1, a\.t2, a\.t3, a\.t4 and 25 more have none/);
});

test("what the database is told of each table", () => {
  const all = config(`[merge]\ndefault = "merge_columns"\n` + entry("vault.log", policy("append_only")));
  const told = rowsPolicies(all, tables).map(({ schema, table, rows }) => `${schema}.${table} ${rows}`);
  assert.deepEqual(told, [
    "public.account merge_columns",
    "public.bare last_update_wins",
    "odd.virtual last_update_wins",
    "vault.audit merge_columns",
    "vault.audit_old merge_columns",
    "vault.Mixed merge_columns",
    "vault.log append_only",
    "vault.log_1 append_only",
    "vault.log_2 append_only",
  ]);
});
