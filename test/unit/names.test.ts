// How servers and databases are named on the command line.
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkConfig } from "../../agent/config.ts";
import { UsageError } from "../../agent/errors.ts";
import { addressFrom, listenAddress, parseNames } from "../../agent/setup/names.ts";
import { parseDatabaseUrl } from "../../agent/setup/existing.ts";

test("names with and without ports", () => {
  const { primary, secondary } = parseNames("A.example.com", "[2001:db8::1]:9000");
  assert.deepEqual(primary, {
    name: "a.example.com",
    host: "a.example.com",
    port: 8282,
    address: "a.example.com:8282",
  });
  assert.equal(secondary.name, "2001:db8::1");
  assert.equal(secondary.address, "[2001:db8::1]:9000");
  assert.equal(listenAddress(primary), "0.0.0.0:8282");
  assert.equal(listenAddress(secondary), "[2001:db8::1]:9000");
});

test("two nodes on one host are told apart by their ports", () => {
  const { primary, secondary } = parseNames("localhost:1001", "localhost:1002");
  assert.deepEqual([primary.name, secondary.name], ["localhost:1001", "localhost:1002"]);
});

for (
  const name of [
    "",
    " ",
    "a b",
    "a:0",
    "a:65536",
    "a:x",
    "http://a",
    "a:1:2",
    "[::g]",
    "-a",
    "256.0.0.1",
    "10.0.0",
    "[192.0.2.1]",
    "::1:",
    "[::1]:0",
    "[::1",
  ]
) {
  test(`refused as a server: ${JSON.stringify(name)}`, () => {
    assert.throws(() => parseNames(name, "other"), UsageError);
  });
}

test("the same address twice is no pair", () => assert.throws(() => parseNames("a", "A:8282"), UsageError));

test("database URLs", () => {
  assert.deepEqual(parseDatabaseUrl("postgres://me:p%40ss@db:6000/shop"), {
    host: "db",
    port: 6000,
    user: "me",
    password: "p@ss",
    database: "shop",
  });
  assert.deepEqual(parseDatabaseUrl("postgresql://db", "other"), {
    host: "db",
    port: 5432,
    user: "postgres",
    database: "other",
  });
  for (const url of ["", "db", "mysql://db/x"]) assert.throws(() => parseDatabaseUrl(url), UsageError);
});

test("a node that listens everywhere is found at its name", () => {
  assert.equal(addressFrom("a.example", "0.0.0.0:8282"), "a.example:8282");
  assert.equal(addressFrom("a.example", "[::]:8282"), "a.example:8282");
  assert.equal(addressFrom("2001:db8::1", "[::]:8282"), "[2001:db8::1]:8282");
  assert.equal(addressFrom("2001:db8::1", "[2001:db8::1]:8282"), "[2001:db8::1]:8282");
  assert.equal(addressFrom("localhost:1001", "0.0.0.0:1001"), "localhost:1001");
});

const toml = (sections: Record<string, Record<string, unknown>>) => ({
  node: { name: "a.example", role: "primary", ...sections.node },
  peer: { name: "b.example", address: "b.example:8282", ...sections.peer },
  postgres: { pgdata: "/data", ...sections.postgres },
  ...(sections.health ? { health: sections.health } : {}),
});

const badAddresses = ["", "8282", ":8282", "a.example", "a.example:", "a.example:0", "a.example:65536", "::1:8282"]
  .concat(["[::1]", "[::1]:0", "[::1]:70000", "[1.2.3.4]:80", "[::g]:80", "256.1.1.1:80", "a b:80", "http://a:80"]);
for (const bad of badAddresses) {
  test(`refused as an address in agent.toml: ${JSON.stringify(bad)}`, () => {
    for (const [section, key] of [["node", "listen"], ["peer", "address"], ["health", "listen"]]) {
      assert.throws(() => checkConfig(toml({ [section]: { [key]: bad } }), "agent.toml"), (error: UsageError) => {
        assert.match(error.message, new RegExp(`Cannot use agent.toml: ${section}.${key}: must be host:port, like`));
        return error.exitCode === 2;
      });
    }
  });
}

for (const bad of ["", "a:3456", "[::1]", "0.0.0.0:3456", "10.0.0", "999.0.0.1", "a,,b", "a b", "/tmp"]) {
  test(`refused as PostgreSQL's listen: ${JSON.stringify(bad)}`, () => {
    const use = () => checkConfig(toml({ postgres: { listen: bad } }), "agent.toml");
    assert.throws(use, /Cannot use agent.toml: postgres.listen: must be names or addresses without port and brackets/);
  });
}

test("addresses of every kind are taken", () => {
  for (const listen of ["0.0.0.0:8282", "[::]:8282", "[2001:db8::1]:1", "db-1.example.com:65535", "localhost:8282"]) {
    assert.equal(checkConfig(toml({ node: { listen } }), "agent.toml").node.listen, listen);
  }
  for (const listen of ["*", "0.0.0.0", "::", "2001:db8::1", "127.0.0.1", "db_1.example.com, ::1"]) {
    assert.equal(checkConfig(toml({ postgres: { listen } }), "agent.toml").postgres.listen, listen);
  }
});

test("commands are for a server that somebody else runs", () => {
  const commands = { start_command: "systemctl start postgresql" };
  const refused = () => checkConfig(toml({ postgres: commands }), "agent.toml");
  assert.throws(refused, /start_command and stop_command go with url/);
  const { postgres } = checkConfig(
    toml({ postgres: { ...commands, pgdata: undefined, url: "postgres://db/app" } }),
    "x",
  );
  assert.equal(postgres.start_command, commands.start_command);
});
