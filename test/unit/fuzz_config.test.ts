// What an operator writes, spoilt in any way: agent.toml, the master key, names, addresses and URLs are understood or refused
// by a proper error that says nothing secret.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { checkConfig, parseConfig, splitAddress } from "../../agent/config.ts";
import { parseLsn } from "../../agent/change/lsn.ts";
import { UsageError } from "../../agent/errors.ts";
import { checkPolicies, refuseBadPolicies } from "../../agent/policy_checks.ts";
import { primaryOnlyRules } from "../../agent/primary_only.ts";
import { composeConfig, parseToml, sharedRules } from "../../agent/setup/files.ts";
import { parseNames } from "../../agent/setup/names.ts";
import { parseDatabaseUrl } from "../../agent/setup/existing.ts";
import { rowsPolicies, type TableFacts } from "../../agent/table_policies.ts";
import { parseKey } from "../../agent/trust/key.ts";
import { onlyProper, runs, secrets, spoilt, spoiltText, tried } from "../helpers/fuzz.ts";

const whole = `
[node]
name = "a.example"
role = "primary"
listen = "0.0.0.0:8282"
[peer]
name = "b.example"
address = "b.example:8282"
[postgres]
url = "postgres://postgres:${secrets[0]}@localhost:5432/app"
dbname = "app"
[failover]
heartbeat_ms = 500
after_ms = 3000
[health]
listen = "[::]:8008"
[merge]
default = "last_update_wins"
[[table]]
match = "vault.audit*"
policy = "append_only"
[[table]]
match = "vault.acc?unt"
policy = "merge_columns"
secret = ["note"]
[[primary_only]]
table = "vault.password"
columns = ["secret"]
operations = ["update"]
message = "password reset"
[hooks]
on_role_change = "/opt/hook"
[alerts]
to = ["me@example.com"]
`;
const words = [
  "[",
  "]",
  "[[table]]",
  "[[primary_only]]",
  "=",
  '"',
  '"""',
  "'''",
  "\n",
  "{",
  "}",
  "__proto__",
  "constructor",
  "a.b.c.d = 1\n",
  "1e400",
  "-0",
  "nan",
  "9223372036854775807",
  "99999999999999999999",
  "1979-05-27T07:32:00Z",
  "\\n",
  "\\u001b[2J",
  "\\u0000",
  "\\U0010ffff",
  "\\uD800",
  "\u0000",
  "\ufeff",
  ":99999",
  ":0",
  "[".repeat(3000),
  "a = {".repeat(500),
  "*a".repeat(60),
  "{1..99999999}",
  "+(+(a))",
  "[!",
  "@(x|y)",
  "[::1]:1",
];
const tables: TableFacts[] = ["audit", "audit_2030", "account", "password"].map((name) => ({
  schema: "vault",
  name,
  label: `vault.${name}`,
  root: null,
  parents: [],
  columns: ["id", "note", "secret"],
  primaryKey: ["id"],
}));

test("agent.toml as text", async () => {
  assert.equal(parseConfig(whole, "agent.toml").node.name, "a.example");
  await fc.assert(
    fc.asyncProperty(spoiltText([whole], words), (text) =>
      onlyProper(() => {
        const config = parseConfig(text, "agent.toml");
        checkPolicies(config, tables);
        rowsPolicies(config, tables);
        primaryOnlyRules(config, tables);
        refuseBadPolicies(config, tables, "agent.toml");
        for (const address of [config.node.listen, config.peer.address]) {
          const { host, port } = splitAddress(address);
          assert.ok(host !== "" && port >= 1 && port <= 65_535, address);
        }
      })),
    runs(3000),
  );
});

test("a document that is added to agent.toml, and what of it travels in a pack", async () => {
  const sections = {
    node: { name: "a", role: "primary" },
    peer: { name: "b", address: "b:1" },
    postgres: { pgdata: "/x" },
  };
  const added = whole.slice(whole.indexOf("[failover]"));
  await fc.assert(
    fc.asyncProperty(spoiltText([added], words), (text) =>
      onlyProper(() => {
        const document = parseToml(text, "rules.toml");
        const composed = composeConfig(sections, { document, origin: "rules.toml" }, null);
        checkConfig(parseToml(sharedRules(composed.document), "a pack"), "a pack");
      })),
    runs(1500),
  );
});

test("documents of any shape", async () => {
  const node = fc.record({ name: fc.anything(), role: fc.anything(), listen: fc.anything() }, { requiredKeys: [] });
  const any = fc.oneof(fc.anything(), fc.record({ node, peer: fc.anything(), table: fc.array(fc.anything()) }));
  await fc.assert(fc.asyncProperty(any, (document) => onlyProper(() => checkConfig(document, "it"))), runs(3000));
});

test("the master key: understood or refused, and never told", async () => {
  const text = Buffer.from(
    `# key\nENCRYPTIONKEY=${Buffer.alloc(32, secrets[0]).toString("base64").replace("=", "\\=")}\n`,
  );
  await fc.assert(
    fc.asyncProperty(spoilt(text), (bytes) =>
      onlyProper(() => {
        try {
          assert.ok(parseKey(bytes, "/key").length >= 32);
        } catch (error) {
          const told = error instanceof UsageError ? error.message + error.remedy : "";
          const key = text.subarray(20, 60).toString("latin1");
          for (let at = 0; at + 8 <= key.length; at++) assert.ok(!told.includes(key.slice(at, at + 8)), told);
          throw error;
        }
      })),
    runs(5000),
  );
});

test("names, addresses, URLs, positions", async () => {
  const odd = [
    "",
    " ",
    ":",
    "@",
    "//",
    "%",
    "%zz",
    "[",
    "]",
    "::",
    "\n",
    "\0",
    "ü",
    "65536",
    "-1",
    "..",
    "?host=/x",
    "#",
  ];
  const name = spoiltText(["a.example:8282", "[::1]:8282", "192.0.2.1"], odd);
  await fc.assert(fc.asyncProperty(name, name, (one, other) => onlyProper(() => parseNames(one, other))), runs(4000));
  const url = spoiltText([`postgres://postgres:${secrets[0]}@db.example:5432/app?host=%2Frun`], odd);
  await fc.assert(fc.asyncProperty(url, (text) => onlyProper(() => parseDatabaseUrl(text))), runs(4000));
  fc.assert(
    fc.property(spoiltText(["16/B374D848", "0/0"], ["/", "-", "g"]), (text) => {
      tried();
      try {
        const lsn = parseLsn(text);
        assert.ok(lsn >= 0n && lsn < 1n << 64n);
      } catch (error) {
        assert.ok(error instanceof RangeError);
      }
    }),
    runs(4000),
  );
});
