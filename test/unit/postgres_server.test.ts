// What is read from and written into PostgreSQL's files, as text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseVersion } from "../../agent/postgres/binaries.ts";
import { parsePidFile } from "../../agent/postgres/postmaster.ts";
import { PortTakenError, startError } from "../../agent/postgres/server.ts";
import { formatSettings, managedSettings, namesIn, withAgentLines } from "../../agent/postgres/server_config.ts";

test("the version of the programs is read", () => {
  assert.deepEqual(parseVersion("postgres (PostgreSQL) 18.4\n"), { major: 18, version: "18.4" });
  assert.deepEqual(parseVersion("postgres (PostgreSQL) 16.2 (Debian 16.2-1)"), { major: 16, version: "16.2" });
  assert.deepEqual(parseVersion("postgres (PostgreSQL) 19devel"), { major: 19, version: "19devel" });
  assert.equal(parseVersion("cockroach 2"), undefined);
});

test("postmaster.pid is read, also when only half is written", () => {
  const text = "4711\n/data\n1700000000\n3456\n/run\n127.0.0.1\n  12345 1\nready   \n";
  assert.deepEqual(parsePidFile(text), {
    pid: 4711,
    dataDir: "/data",
    port: 3456,
    socketDir: "/run",
    listen: "127.0.0.1",
    status: "ready",
  });
  assert.equal(parsePidFile("4711\n/data\n")?.port, null);
  assert.equal(parsePidFile(""), undefined);
});

test("settings are quoted, and present values never lowered", () => {
  assert.match(formatSettings({ a: "it's \\ x" }), /^a = 'it''s \\\\ x'$/m);
  assert.throws(() => formatSettings({ a: "x\ny" }), RangeError);
  const settings = managedSettings({ listen: "h", port: 1, socketDir: "/s", atLeast: { max_wal_senders: 50 } });
  assert.equal(settings.max_wal_senders, "50");
  assert.equal(settings.max_replication_slots, "10");
});

test("names in a conf file", () => {
  assert.deepEqual(namesIn("# c = 1\nport = 5\n  Wal_Level 'x'\n\n"), ["port", "wal_level"]);
});

test("pg_hba lines stand first and are put in once", () => {
  const own = "host app app 10.0.0.0/8 cert\n";
  const once = withAgentLines(own, { openToHosts: false });
  assert.equal(once.split("\n")[1], "local all all trust");
  assert.ok(once.endsWith(own));
  assert.equal(withAgentLines(once, { openToHosts: false }), once);
  const open = withAgentLines(own, { openToHosts: true });
  assert.ok(open.endsWith("cert\nhost all all all scram-sha-256\n"));
  assert.equal(withAgentLines(open, { openToHosts: true }), open);
});

test("a taken port is recognised in the log", () => {
  const cluster = { pgdata: "/d", port: 3456, logFile: "/l" };
  const log = `LOG:  could not bind IPv4 address "127.0.0.1": Address already in use
HINT:  Is another postmaster already running on port 3456? If not, wait a few seconds and retry.
FATAL:  could not create any TCP/IP sockets`;
  assert.ok(startError(cluster, log, false) instanceof PortTakenError);
  assert.match(startError(cluster, "FATAL: x\nsecond", false).message, /its log ends: FATAL: x \| second/);
});
