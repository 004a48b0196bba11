// `agent check` on a real pair: clean where all is well, from either side; then each thing broken is found, with its
// remedy and the exit code, with the agent running or not, and while the other node is away.
import assert from "node:assert/strict";
import { join } from "node:path";
import { openPool } from "../../agent/postgres/connect.ts";
import { makePair } from "../helpers/pair.ts";
import type { PairNode, Status } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";
import { makeVault } from "../helpers/vault.ts";

interface Checked {
  worst: string;
  findings: { name: string; severity: string; node: string; message: string; remedy: string | null }[];
}

async function check(node: PairNode, expect: number): Promise<Checked> {
  return JSON.parse((await node.agent(["check", "--json"], { expect })).stdout);
}

const sameKey = (status: Status) => (status as Status & { key: { same_as_peer: boolean | null } }).key.same_as_peer;
const graveOf = ({ findings }: Checked) =>
  findings.filter(({ severity }) => severity === "error").map(({ name, node }) => `${node} ${name}`).sort();
/** Tests switch these off; nothing else may be amiss. */
const spared = new Set(["fsync", "full_page_writes"]);
const amiss = ({ findings }: Checked) =>
  findings.filter(({ severity, name }) => severity !== "ok" && !spared.has(name)).map(({ name }) => name);

scopedTest("a pair that is well, and one in which everything is wrong", async (scope) => {
  const pair = await makePair(scope, { load: makeVault });
  const { primary, secondary } = pair;
  for (const node of [primary, secondary]) {
    await node.waitStatus("sure of its peer's key", (s) => sameKey(s) === true, 60_000);
    const well = await check(node, 0);
    assert.deepEqual(amiss(well), [], JSON.stringify(well.findings, null, 1));
    const ports = well.findings.filter(({ name }) => name.startsWith("port_")).map(({ node }) => node).sort();
    assert.deepEqual(ports, [primary.host, primary.host, secondary.host, secondary.host].sort(), "from both sides");
    for (const name of ["key_same", "clock", "agent_versions", "postgresql_versions", "locale", "roles"]) {
      assert.ok(well.findings.some((one) => one.name === name && one.severity === "ok"), name);
    }
    const { stdout } = await node.agent(["check"]);
    assert.match(stdout, /^ok +\S+ +agent +the agent runs/m);
    assert.match(stdout, /\d+ ok, \d+ warning, 0 error\n$/);
  }

  // What is not replicated, what differs, what is bad for an index.
  const app = primary.app(pair.target);
  await app`CREATE UNLOGGED TABLE vault.cache (id int)`;
  await app`SELECT lo_create(0)`;
  const alone = (node: PairNode) =>
    openPool({ host: join(node.home, "run"), port: node.pgPort, user: "postgres", database: "app" }, {
      purpose: "test",
      max: 1,
      settings: { session_replication_role: "replica" },
    });
  const [here, there] = [alone(primary), alone(secondary)];
  scope.defer("two connections", async () => void await Promise.all([here.end(), there.end()]));
  await here`CREATE ROLE newcomer LOGIN`;
  await there`CREATE ROLE bystander`;
  await there`ALTER ROLE app PASSWORD 'another one'`;
  await there.unsafe(`CREATE COLLATION german (provider = icu, locale = 'de');
    CREATE TABLE sorted (t text COLLATE german PRIMARY KEY);
    UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'german'`);
  const broken = await check(primary, 1);
  assert.deepEqual(graveOf(broken), [`${primary.host} roles`, `${secondary.host} collations`]);
  assert.deepEqual(
    amiss(broken).sort(),
    ["collations", "large_objects", "roles", "roles", "roles", "unlogged_tables"],
    JSON.stringify(broken.findings, null, 1),
  );
  const collations = broken.findings.find(({ name, severity }) => name === "collations" && severity === "error");
  assert.match(collations!.message, /built by icu 1\.0, .*: they may not find rows: public\.sorted_pkey$/);
  // The remedy is what helps.
  await there.unsafe(collations!.remedy!);
  await here`DROP ROLE newcomer`;
  assert.deepEqual(graveOf(await check(secondary, 0)), []);

  // While the other node is away: said, and the rest is looked at all the same.
  await secondary.stop();
  await primary.waitStatus("without word of the peer's key", (s) => sameKey(s) === null);
  const away = await check(primary, 1);
  assert.ok(amiss(away).includes("key_same"), "what is not known is said");
  assert.deepEqual(graveOf(away), ["peer", "port_agent", "port_database"].map((name) => `${primary.host} ${name}`));
  assert.ok(away.findings.some(({ name, severity }) => name === "wal_level" && severity === "ok"));

  // Without an agent, and so without its database: what can be seen is seen from the other side as well.
  const without = await check(secondary, 1);
  assert.deepEqual(graveOf(without), [`${primary.host} port_agent`, `${primary.host} port_database`]);
  assert.ok(
    without.findings.some(({ name, severity, node }) =>
      node === secondary.host && name === "database" && severity === "warning"
    ),
  );
  assert.ok(
    without.findings.some(({ name, severity, node }) =>
      node === secondary.host && name === "port_database" && severity === "ok"
    ),
  );
}, { timeoutMs: 300_000 });
