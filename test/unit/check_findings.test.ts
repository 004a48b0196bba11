// From facts to findings of `agent check`: each thing that can be wrong makes its finding, with a remedy, and no other.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compareNodes, sameKeyFinding } from "../../agent/check/compare.ts";
import type { HostFacts, View } from "../../agent/check/facts.ts";
import { worst } from "../../agent/check/finding.ts";
import { answerOf, viewFindings } from "../../agent/check/findings.ts";
import { fitting } from "../../agent/check/read_database.ts";
import { type CheckAnswer, checkAnswer, type CollationFacts, type Finding } from "../../agent/check_report.ts";
import { renderFindings } from "../../cli/check.ts";

const now = new Date("2026-06-01T00:00:00Z");
const certificate = {
  subject: "CN=a.example",
  notAfter: "2036-01-01T00:00:00.000Z",
  coversHost: true,
  fromAuthority: false,
};

const host: HostFacts = {
  own: { host: "a.example", isAddress: false, addresses: ["192.0.2.1"], failure: null },
  peer: { host: "b.example", isAddress: false, addresses: ["192.0.2.2"], failure: null },
  interfaces: ["127.0.0.1", "192.0.2.1"],
  listensByName: true,
  key: { path: "/etc/key" },
  certificate,
  peerCertificate: { ...certificate, subject: "CN=b.example" },
  disks: [{ path: "/data", freeBytes: 1e12 }],
  floorMb: 64,
};

const collation: CollationFacts = {
  label: "app",
  ofDatabase: true,
  provider: "libc",
  locale: "en_US.UTF-8",
  recorded: "2.36",
  actual: "2.36",
  indexes: ["public.person_name_idx"],
};

const role = { name: "app", attributes: "login", login: true, password: "0123abcd" };
const sequence = { label: "public.s", increment: "2", min: "1", max: "100", cycle: false };
const compared = {
  version: "18.4",
  major: 18,
  encoding: "UTF8",
  roles: [role],
  collations: [collation],
  sequences: [sequence],
};

const database = {
  settings: {
    serverVersionNum: 180_004,
    superuser: true,
    inRecovery: false,
    walLevel: "logical",
    trackCommitTimestamp: "on",
    maxReplicationSlots: 10,
    maxWalSenders: 10,
    serverEncoding: "UTF8",
  },
  risky: { fsync: "on", fullPageWrites: "on", maxSlotWalKeepSize: -1, idleReplicationSlotTimeout: 0 },
  hasSchema: true,
  withoutKey: [],
  unlogged: [],
  largeObjects: 0,
  sequences: [],
  misplaced: [],
  compared,
};

const view: View = {
  name: "a.example",
  role: "primary",
  peerName: "b.example",
  peerRole: "secondary",
  agentRuns: true,
  postgresPort: 3456,
  clockMs: 0,
  host,
  database,
  agentPort: { host: "b.example", port: 8282, failure: null },
  databasePort: { host: "b.example", port: 3456, failure: null },
};

const bad = (findings: readonly Finding[]) =>
  findings.filter(({ severity }) => severity !== "ok").map(({ name, severity }) => `${severity} ${name}`);

test("a node that is well has findings, all of them ok, each thing once", () => {
  const findings = viewFindings(view, now);
  assert.deepEqual(bad(findings), []);
  assert.equal(new Set(findings.map(({ name }) => name)).size, findings.length);
  for (const name of ["wal_level", "port_agent", "port_database", "key", "certificate", "disk", "collations"]) {
    assert.ok(findings.some((one) => one.name === name), name);
  }
  assert.equal(worst(findings), "ok");
});

const withHost = (changes: Partial<HostFacts>): View => ({ ...view, host: { ...host, ...changes } });
const withDatabase = (changes: Partial<typeof database>): View => ({ ...view, database: { ...database, ...changes } });
const settings = (changes: Partial<typeof database.settings>) =>
  withDatabase({ settings: { ...database.settings, ...changes } });
const own = (addresses: string[], failure: string | null = null) => ({ ...host.own, addresses, failure });

const cases: [string, View, string[]][] = [
  ["no agent", { ...view, agentRuns: false }, ["warning agent"]],
  ["wal_level", settings({ walLevel: "replica" }), ["error wal_level"]],
  ["track_commit_timestamp", settings({ trackCommitTimestamp: "off" }), ["error track_commit_timestamp"]],
  ["slots and senders", settings({ maxReplicationSlots: 3, maxWalSenders: 3 }), [
    "error max_replication_slots",
    "error max_wal_senders",
  ]],
  ["not a superuser", settings({ superuser: false }), ["error superuser"]],
  ["no schema", withDatabase({ hasSchema: false }), ["error schema"]],
  ["fsync", withDatabase({ risky: { ...database.risky, fsync: "off" } }), ["warning fsync"]],
  [
    "WAL that is not kept",
    withDatabase({ risky: { ...database.risky, maxSlotWalKeepSize: 100 } }),
    ["warning max_slot_wal_keep_size"],
  ],
  [
    "an idle slot that is dropped",
    withDatabase({ risky: { ...database.risky, idleReplicationSlotTimeout: 60 } }),
    ["warning idle_replication_slot_timeout"],
  ],
  ["no primary key", withDatabase({ withoutKey: ["public.note"] as never[] }), ["warning primary_keys"]],
  ["unlogged", withDatabase({ unlogged: ["public.cache"] as never[] }), ["warning unlogged_tables"]],
  ["large objects", withDatabase({ largeObjects: 2 }), ["warning large_objects"]],
  ["a sequence on the other half", withDatabase({ misplaced: ["public.s"] as never[] }), ["warning sequences"]],
  [
    "a stale collation",
    withDatabase({ compared: { ...compared, collations: [{ ...collation, recorded: "2.31" }] } }),
    ["error collations"],
  ],
  [
    "a collation whose version is not to be had any more",
    withDatabase({ compared: { ...compared, collations: [{ ...collation, actual: null as unknown as string }] } }),
    ["error collations"],
  ],
  ["a database that is away", { ...view, database: { problem: "Cannot reach it", remedy: "start it" } }, [
    "error database",
  ]],
  [
    "a database that is away with its agent",
    { ...view, agentRuns: false, database: { problem: "Cannot reach it", remedy: "start it" } },
    ["warning agent", "warning database"],
  ],
  ["the own name leads nowhere", withHost({ own: own([], "ENOTFOUND") }), ["error dns_own"]],
  ["the trap of 127.0.1.1", withHost({ own: own(["127.0.1.1"]) }), ["error dns_own"]],
  ["the same where PostgreSQL listens elsewhere", withHost({ own: own(["127.0.1.1"]), listensByName: false }), [
    "warning dns_own",
  ]],
  ["an address of another machine", withHost({ own: own(["192.0.2.9"]) }), ["error dns_own"]],
  ["both on this machine", withHost({ own: own(["127.0.0.1"]), peer: { ...host.peer, addresses: ["127.0.0.2"] } }), []],
  ["the peer's name leads nowhere", withHost({ peer: { ...host.peer, addresses: [], failure: "ENOTFOUND" } }), [
    "error dns_peer",
  ]],
  ["no key", withHost({ key: { problem: "Cannot read key", remedy: "name it" } }), ["error key"]],
  ["an expired certificate", withHost({ certificate: { ...certificate, notAfter: "2026-05-31T00:00:00.000Z" } }), [
    "error certificate",
  ]],
  ["one that ends soon", withHost({ certificate: { ...certificate, notAfter: "2026-06-20T00:00:00.000Z" } }), [
    "warning certificate",
  ]],
  ["nobody has joined", withHost({ peerCertificate: null }), ["warning certificate_peer"]],
  ["a full disk", withHost({ disks: [{ path: "/data", freeBytes: 1e6 }] }), ["error disk"]],
  ["a disk that fills", withHost({ disks: [{ path: "/data", freeBytes: 3e8 }] }), ["warning disk"]],
  ["a firewall that swallows", { ...view, agentPort: { ...view.agentPort, failure: "TIMEOUT" } }, ["error port_agent"]],
  ["nobody listens", { ...view, databasePort: { ...view.databasePort, failure: "ECONNREFUSED" } }, [
    "error port_database",
  ]],
  ["somebody else listens", { ...view, databasePort: { ...view.databasePort, failure: "NOT_POSTGRES" } }, [
    "error port_database",
  ]],
  [
    "nobody listens yet",
    { ...withHost({ peerCertificate: null }), agentPort: { ...view.agentPort, failure: "ECONNREFUSED" } },
    ["warning certificate_peer", "warning port_agent"],
  ],
];

for (const [name, facts, expected] of cases) {
  test(`found: ${name}`, () => {
    const findings = viewFindings(facts, now);
    assert.deepEqual(bad(findings), expected);
    for (const { severity, remedy, node } of findings) {
      assert.equal(
        remedy !== null && remedy !== "",
        severity !== "ok",
        "what is wrong has a remedy, what is well none",
      );
      assert.equal(node, "a.example");
    }
  });
}

test("a certificate of an authority is not renewed by signing it oneself", () => {
  for (const [fromAuthority, remedy] of [[false, /^agent cert renew,/], [true, /^agent cert import FILE,/]] as const) {
    for (const notAfter of ["2026-05-31T00:00:00.000Z", "2026-06-20T00:00:00.000Z"]) {
      const findings = viewFindings(withHost({ certificate: { ...certificate, notAfter, fromAuthority } }), now);
      assert.match(findings.find(({ name }) => name === "certificate")!.remedy!, remedy);
    }
  }
});

test("a stale collation names its indexes and the statements that mend them", () => {
  const indexes = Array.from({ length: 7 }, (_, i) => `public.i${i}`);
  const collations = [
    { ...collation, recorded: "2.31", indexes },
    { ...collation, label: "public.german", ofDatabase: false, provider: "icu", recorded: "60", actual: "153.14" },
  ];
  const findings = viewFindings(withDatabase({ compared: { ...compared, collations } }), now);
  const [ofDatabase, named] = findings.filter(({ name }) => name === "collations");
  assert.match(ofDatabase.message, /built by libc 2\.31, this machine has 2\.36: .* public\.i4 and 2 more$/);
  assert.match(
    ofDatabase.remedy!,
    /^REINDEX INDEX public\.i0; .*REINDEX INDEX public\.i6; ALTER DATABASE "app" REFRESH/,
  );
  assert.match(named.remedy!, /ALTER COLLATION public\.german REFRESH VERSION;$/);
});

const here = answerOf(view, now);
const there: CheckAnswer = { ...here, name: "b.example", role: "secondary", findings: [] };
const other = (changes: Partial<typeof compared>): CheckAnswer => ({ ...there, database: { ...compared, ...changes } });
const clock = { skewMs: 3, roundTripMs: 1 };

const pairs: [string, CheckAnswer, typeof clock | null, string[]][] = [
  ["the same", there, clock, []],
  ["another version of the agent", { ...there, agent_version: "9.9.9" }, clock, ["warning agent_versions"]],
  ["another protocol", { ...there, protocol: 99 }, clock, ["error agent_versions"]],
  ["clocks apart", there, { skewMs: -700, roundTripMs: 1 }, ["warning clock"]],
  ["clocks far apart", there, { skewMs: 60_000, roundTripMs: 1 }, ["error clock"]],
  ["clocks that nobody can tell over this link", there, { skewMs: 700, roundTripMs: 1000 }, []],
  ["no database there", { ...there, database: null }, clock, ["warning comparison"]],
  ["another major version", other({ version: "17.2", major: 17 }), clock, ["error postgresql_versions"]],
  ["another minor version", other({ version: "18.1" }), clock, ["warning postgresql_versions"]],
  ["another encoding", other({ encoding: "LATIN1" }), clock, ["error encoding"]],
  ["a login role is missing there", other({ roles: [] }), clock, ["error roles"]],
  ["a login role is missing here", other({ roles: [role, { ...role, name: "new" }] }), clock, ["error roles"]],
  ["a group is missing here", other({ roles: [role, { ...role, name: "g", login: false }] }), clock, ["warning roles"]],
  ["other rights", other({ roles: [{ ...role, attributes: "superuser, login" }] }), clock, ["warning roles"]],
  ["another password", other({ roles: [{ ...role, password: "ffffffff" }] }), clock, ["warning roles"]],
  ["a password that may not be read", other({ roles: [{ ...role, password: null as unknown as string }] }), clock, []],
  ["another locale", other({ collations: [{ ...collation, locale: "de_DE.UTF-8" }] }), clock, ["error locale"]],
  ["another libc", other({ collations: [{ ...collation, recorded: "2.31", actual: "2.31" }] }), clock, [
    "warning collation_versions",
  ]],
  ["another increment", other({ sequences: [{ ...sequence, increment: "4" }] }), clock, ["error sequence_bounds"]],
  ["other bounds", other({ sequences: [{ ...sequence, max: "1000" }] }), clock, ["error sequence_bounds"]],
  ["a sequence that is missing there", other({ sequences: [] }), clock, []],
];

for (const [name, answer, times, expected] of pairs) {
  test(`compared: ${name}`, () => {
    const findings = compareNodes(here, answer, times);
    assert.deepEqual(bad(findings), expected);
    for (const { severity, remedy } of findings) assert.equal(remedy !== null, severity !== "ok");
  });
}

test("keys that were not proven are told of; other ones are an error", () => {
  const severities = [true, null, false].map((same) => sameKeyFinding(same).severity);
  assert.deepEqual(severities, ["ok", "warning", "error"]);
});

test("what a node answers is what the other one accepts, and says the same seen from either side", () => {
  assert.deepEqual(checkAnswer.parse(JSON.parse(JSON.stringify(here))), here);
  for (const [, answer] of pairs) {
    assert.deepEqual(
      bad(compareNodes(here, answer, null)).sort(),
      bad(compareNodes(answer, here, null)).sort(),
    );
  }
});

test("a role with very many memberships fits into the answer, and still compares as a whole", () => {
  const groups = Array.from({ length: 200 }, (_, i) => `${"group".repeat(8)}_${i}`);
  const long = (last: string) => fitting(`login, member of ${[...groups, last].join(" and ")}`);
  const withRole = (attributes: string) => ({
    ...here,
    database: { ...compared, roles: [{ ...role, attributes }] },
  });
  const [one, other] = [withRole(long("a")), { ...withRole(long("b")), name: "b.example" }];
  for (const answer of [one, other]) checkAnswer.parse(answer);
  assert.deepEqual(bad(compareNodes(one, other, clock)), ["warning roles"]);
  assert.deepEqual(bad(compareNodes(one, { ...one, name: "b.example" }, clock)), []);
  fc.assert(fc.property(fc.string({ maxLength: 1900 }), (text) => assert.equal(fitting(text), text)));
  fc.assert(fc.property(fc.string({ unit: "binary", minLength: 1900, maxLength: 4000 }), (text) => {
    assert.ok(fitting(text).length <= 2000);
  }));
});

test("the table shows every finding, errors last, and counts them", () => {
  const findings = fc.array(fc.record({
    name: fc.constantFrom("wal_level", "roles"),
    node: fc.constantFrom("a", "b.example"),
    severity: fc.constantFrom("ok" as const, "warning" as const, "error" as const),
    message: fc.stringMatching(/^[a-z ]{1,20}$/),
    remedy: fc.option(fc.stringMatching(/^[a-z]{1,9}$/)),
  }));
  fc.assert(fc.property(findings, (list) => {
    const lines = renderFindings(list, false).split("\n");
    const remedies = list.filter(({ remedy }) => remedy !== null).length;
    assert.equal(lines.length, list.length + remedies + 1);
    const words = lines.slice(0, -1).filter((line) => !line.startsWith(" ")).map((line) => line.split(" ")[0]);
    assert.deepEqual(words, [...words].sort((a, b) => "owe".indexOf(a[0]) - "owe".indexOf(b[0])));
    for (const { message } of list) assert.ok(lines.some((line) => line.endsWith(message)));
  }));
});
