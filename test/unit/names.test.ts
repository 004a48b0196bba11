// How servers and databases are named on the command line.
import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageError } from "../../agent/errors.ts";
import { listenAddress, parseNames } from "../../agent/setup/names.ts";
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

for (const name of ["", " ", "a b", "a:0", "a:65536", "a:x", "http://a", "a:1:2", "[::g]", "-a"]) {
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
