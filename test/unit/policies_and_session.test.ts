// Small pure parts at the joints: which policy a table has, and where a replication session's stream begins.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { type Config, parseConfig } from "../../agent/config.ts";
import { defaultPolicy } from "../../agent/merge/policy.ts";
import { configHash, policyFor, secretOf } from "../../agent/node/policies.ts";
import { untilCopyBoth } from "../../agent/wal/session.ts";

const base = `
[node]
name = "a"
role = "primary"
[peer]
name = "b"
address = "b:8282"
[postgres]
pgdata = "/data"
`;
const config = (more: string): Config => parseConfig(base + more, "agent.toml");

test("the policy of a table: the first pattern that matches, else the default", () => {
  const policy = policyFor(config(`
[merge]
default = "primary_wins"
[[table]]
match = "vault.audit*"
policy = "append_only"
[[table]]
match = "vault.*"
policy = "merge_columns"
[[table]]
match = "*.note"
policy = "secondary_wins"
`));
  const rows = (label: string) => policy(label).rows;
  assert.equal(rows("vault.audit_log"), "append_only");
  assert.equal(rows("vault.account"), "merge_columns");
  assert.equal(rows("vault.note"), "merge_columns");
  assert.equal(rows("public.note"), "secondary_wins");
  assert.equal(rows("public.account"), "primary_wins");
  assert.equal(rows("public.account"), "primary_wins");
  assert.deepEqual(policyFor(config(""))("public.t"), defaultPolicy);
});

test("the policy of a table is whole: what its entry leaves out is of [merge], never of a later entry", () => {
  const all = config(`
[merge]
deletes = "delete_wins"
dangling = "restore_parent"
[[table]]
match = "vault.account"
unique = "primary_wins"
secret = ["password"]
[[table]]
match = "vault.*"
policy = "secondary_wins"
deletes = "last_update_wins"
secret = ["key", "salt"]
`);
  const policy = policyFor(all);
  assert.deepEqual(policy("vault.account"), {
    rows: "last_update_wins",
    deletes: "delete_wins",
    unique: "primary_wins",
    dangling: "restore_parent",
  });
  assert.deepEqual(policy("vault.other"), {
    rows: "secondary_wins",
    deletes: "last_update_wins",
    unique: "last_update_wins",
    dangling: "restore_parent",
  });
  const secret = secretOf(all);
  assert.deepEqual(["vault.account", "vault.other", "public.t"].map(secret), [["password"], ["key", "salt"], []]);
});

test("a partition has the policy of its root, also once it is known to be one, unless its own name comes first", () => {
  const all = config(`
[[table]]
match = "vault.log_2024"
policy = "primary_wins"
[[table]]
match = "vault.log"
policy = "append_only"
secret = ["what"]
`);
  const part = () => ({ root: "vault.log", primaryKey: ["id"] });
  const tables = new Map([["vault.log_2024", part()], ["vault.log_2025", part()]]);
  const policy = policyFor(all, (label) => tables.get(label));
  assert.equal(policy("vault.log_2024").rows, "primary_wins");
  assert.equal(policy("vault.log_2025").rows, "append_only");
  assert.equal(policy("vault.log_2026").rows, "last_update_wins");
  tables.set("vault.log_2026", part());
  assert.equal(policy("vault.log_2026").rows, "append_only");
  assert.deepEqual(secretOf(all, (label) => tables.get(label))("vault.log_2026"), ["what"]);
});

test("what needs a primary key is last_update_wins where there is none", () => {
  const tables = new Map([
    ["a.keyed", { root: null, primaryKey: ["id"] }],
    ["a.bare", { root: null, primaryKey: [] as string[] }],
  ]);
  for (const name of ["merge_columns", "append_only"]) {
    const policy = policyFor(
      config(`[merge]\ndefault = "${name}"\ndeletes = "delete_wins"`),
      (label) => tables.get(label),
    );
    assert.deepEqual(["a.keyed", "a.bare", "a.unknown"].map((label) => policy(label).rows), [
      name,
      "last_update_wins",
      name,
    ]);
    assert.equal(policy("a.bare").deletes, "delete_wins");
    tables.set("a.bare", { root: null, primaryKey: ["id"] });
    assert.equal(policy("a.bare").rows, name, "the key was added");
    tables.set("a.bare", { root: null, primaryKey: [] });
  }
});

test("the hash of what both nodes must agree on", () => {
  const plain = configHash(config(""));
  assert.match(plain, /^[0-9a-f]{16}$/);
  for (
    const same of [
      "[failover]\nheartbeat_ms = 100\n",
      '[merge]\ndefault = "last_update_wins"\n',
      '[merge]\ndangling = "quarantine"\nunique = "last_update_wins"\ndeletes = "update_wins"\n',
    ]
  ) assert.equal(configHash(config(same)), plain, same);
  const rule = (...more: string[]) => `[[primary_only]]\ntable = "a.b"\nmessage = "m"\n${more.join("\n")}\n`;
  const entry = (...more: string[]) => `[[table]]\nmatch = "a.*"\n${more.join("\n")}\n`;
  const different = [
    "",
    '[merge]\ndefault = "primary_wins"\n',
    '[merge]\ndeletes = "delete_wins"\n',
    '[merge]\nunique = "primary_wins"\n',
    '[merge]\ndangling = "restore_parent"\n',
    entry('policy = "primary_wins"'),
    entry('policy = "primary_wins"', 'secret = ["a"]'),
    entry('policy = "primary_wins"', 'secret = ["a", "b"]'),
    entry('deletes = "delete_wins"'),
    entry('unique = "primary_wins"'),
    entry('dangling = "restore_parent"'),
    rule('operations = ["update"]'),
    rule('operations = ["update"]', 'columns = ["a"]'),
    rule('operations = ["update", "delete"]'),
  ].map((text) => configHash(config(text)));
  assert.equal(new Set(different).size, different.length);
  const equal: [string, string][] = [
    [entry('policy = "primary_wins"', 'secret = ["a", "b"]'), entry('secret = ["b", "a"]', 'policy = "primary_wins"')],
    [entry('policy = "last_update_wins"'), entry('deletes = "update_wins"')],
    [rule('operations = ["update", "delete"]'), rule('operations = ["delete", "update"]')],
  ];
  for (const [one, other] of equal) assert.equal(configHash(config(one)), configHash(config(other)), one);
  const orders = [entry('policy = "primary_wins"'), '[[table]]\nmatch = "a.b"\npolicy = "secondary_wins"\n'];
  assert.notEqual(configHash(config(orders.join(""))), configHash(config(orders.reverse().join(""))));
});

test("agent.toml: words that are none, and an entry that says nothing", () => {
  const wrong: [string, RegExp][] = [
    ['[merge]\ndefault = "newest"\n', /merge\.default.*last_update_wins/],
    ['[merge]\ndeletes = "merge_columns"\n', /merge\.deletes/],
    ['[[table]]\nmatch = "a.b"\n', /\[\[table\]\] 1.*needs at least one of policy/],
    ['[[table]]\nmatch = "a.b"\nsecret = "a"\n', /\[\[table\]\] 1 .match = "a\.b".: secret/],
    ['[[table]]\nmatch = "a.b"\npolicy = "append_only"\n[[table]]\nmatch = "a.c"\npolicy = "x"\n', /2 .match = "a\.c"/],
    ['[[table]]\npolicy = "append_only"\n', /\[\[table\]\] 1: match/],
  ];
  for (const [text, message] of wrong) assert.throws(() => config(text), message, text);
});

const backend = (kind: string, ...body: number[]) =>
  Buffer.from([kind.charCodeAt(0), 0, 0, 0, 4 + body.length, ...body]);
// Authentication, a parameter with a W inside, ready; then CopyBothResponse and the stream.
const login = Buffer.concat([backend("R", 0, 0, 0, 0), backend("S", 0x57, 0, 0x57, 0), backend("Z", 0x49)]);
const copyBoth = backend("W", 0, 0, 0);
const stream = Buffer.from("d....W....");

test("the socket is the library's up to CopyBothResponse and ours behind it, wherever the chunks are cut", () => {
  const all = Buffer.concat([login, copyBoth, stream]);
  for (let first = 0; first <= all.length; first++) {
    for (let second = first; second <= all.length; second++) {
      let before = Buffer.alloc(0), after = Buffer.alloc(0), streaming = false;
      const split = untilCopyBoth((chunk) => before = Buffer.concat([before, chunk]), (rest) => {
        assert.equal(streaming, false);
        streaming = true;
        after = Buffer.concat([after, rest]);
      });
      for (const chunk of [all.subarray(0, first), all.subarray(first, second), all.subarray(second)]) {
        if (streaming) after = Buffer.concat([after, chunk]);
        else if (chunk.length > 0) split(chunk);
      }
      assert.deepEqual([before, after], [Buffer.concat([login, copyBoth]), stream], `cut at ${first} and ${second}`);
    }
  }
});

test("a server that refuses never gets to the stream", () => {
  let before = Buffer.alloc(0);
  const split = untilCopyBoth((chunk) => before = Buffer.concat([before, chunk]), () => assert.fail("no stream"));
  const refusal = Buffer.concat([login, backend("E", 0x57, 0, 0)]);
  for (const byte of refusal) split(Buffer.from([byte]));
  assert.deepEqual(before, refusal);
});
