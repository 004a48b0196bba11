// After a split both sides list the same conflicts, secrets masked. A losing version is put back at the serving node, as a
// new write that goes to the other side with the note of it; a child whose parent is gone stays out until there is one.
import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { type PairNode, runAgent } from "../helpers/pair_node.ts";
import { scopedTest } from "../helpers/scope.ts";

interface Line {
  id: number;
  kind: string;
  table: string;
  key: Record<string, string>;
  winner: string;
  quarantined: boolean;
  reviewed_at: string | null;
  restored_at: string | null;
}

const policies = '\n[[table]]\nmatch = "public.login"\nsecret = ["word"]\n';

scopedTest("a losing version is put back and replicates; refusals name the peer", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql, { primary }) => {
      appendFileSync(join(primary.home, "conf", "agent.toml"), policies);
      await sql`CREATE TABLE login (id int PRIMARY KEY, word text)`;
      await sql`CREATE TABLE folder (id int PRIMARY KEY)`;
      await sql`CREATE TABLE file (id int PRIMARY KEY, folder int CONSTRAINT in_folder REFERENCES folder)`;
      await sql`INSERT INTO login VALUES (1, 'first'), (2, 'second')`;
      await sql`INSERT INTO folder VALUES (1), (2)`;
    },
  });
  const { primary, secondary, link } = pair;
  const [a, b] = [primary.app(pair.target), secondary.app(pair.target)];
  const ask = async <T>(node: PairNode, ...args: string[]) =>
    JSON.parse((await node.agent(["conflicts", ...args, "--json"])).stdout) as T;
  const list = async (node: PairNode, ...args: string[]) =>
    (await ask<{ conflicts: Line[] }>(node, "list", ...args)).conflicts;

  link.cut();
  await secondary.waitServing();
  await b`UPDATE login SET word = 'geheim' WHERE id = 1`;
  await b`INSERT INTO file VALUES (7, 2)`;
  await pause(50); // The commit times order the two.
  await a`UPDATE login SET word = 'offen' WHERE id = 1`;
  await a`DELETE FROM folder WHERE id = 2`;
  link.heal();
  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser);

  const here = await list(primary);
  assert.deepEqual(await list(secondary), here, "both sides list the same");
  const find = (kind: string) => here.find((line) => line.kind === kind)!;
  const overruled = find("update_origin_differs");
  const orphan = find("foreign_key_dangling");
  assert.deepEqual([overruled.table, overruled.key, overruled.winner], ["login", { id: "1" }, "primary"]);
  assert.deepEqual([orphan.table, orphan.key, orphan.quarantined], ["file", { id: "7" }, true]);
  for (const node of [primary, secondary]) {
    // They are counted with the next look at the database.
    const status = await node.waitStatus("with both conflicts", ({ conflicts }) => conflicts.total === 2);
    assert.deepEqual(status.conflicts, { total: 2, unreviewed: 2, quarantined: 1 });
    const alert = status.alerts.find(({ name }) => name === "quarantine");
    assert.match(alert?.message ?? "", /^1 row was .* Try: agent conflicts list --unreviewed$/);
    const shown = await node.agent(["conflicts", "show", String(overruled.id)]);
    assert.match(shown.stdout, /\* word +\*{8} +\*{8}/);
    assert.doesNotMatch(shown.stdout, /geheim|offen/);
    assert.match((await node.agent(["conflicts", "show", String(overruled.id), "--reveal"])).stdout, /offen +geheim/);
  }

  const standing = await runAgent(["conflicts", "restore", String(overruled.id), "--home", secondary.home]);
  assert.equal(standing.code, 3, standing.stderr);
  assert.ok(standing.stderr.includes(primary.host), standing.stderr);
  const reviewedThere = await runAgent(["conflicts", "reviewed", String(overruled.id), "--home", secondary.home]);
  assert.equal(reviewedThere.code, 3, reviewedThere.stderr);

  const alone = await runAgent(["conflicts", "restore", String(orphan.id), "--home", primary.home]);
  assert.equal(alone.code, 3, alone.stderr);
  assert.match(alone.stderr, /the row of public\.folder that it refers to is not there \(in_folder of public\.file\)/);

  const done = await ask<{ did: string; version: string }>(primary, "restore", String(overruled.id));
  assert.deepEqual([done.did, done.version], ["updated", "secondary"]);
  await a`INSERT INTO folder VALUES (2)`;
  assert.equal((await ask<{ did: string }>(primary, "restore", String(orphan.id))).did, "inserted");
  await waitEqual(primary.superuser, secondary.superuser);
  assert.equal((await secondary.superuser`SELECT word FROM login WHERE id = 1`)[0].word, "geheim");
  assert.equal((await secondary.superuser`SELECT count(*)::int AS n FROM file WHERE id = 7 AND folder = 2`)[0].n, 1);
  for (const node of [primary, secondary]) {
    const status = await node.waitStatus("without unreviewed conflicts", ({ conflicts }) => conflicts.unreviewed === 0);
    assert.deepEqual(status.conflicts, { total: 2, unreviewed: 0, quarantined: 0 });
    assert.ok(!status.alerts.some(({ name }) => name === "quarantine"));
    assert.deepEqual(await list(node, "--unreviewed"), []);
    assert.ok((await list(node)).every((line) => line.restored_at !== null), "the note of it has arrived");
  }
  const twice = await runAgent(["conflicts", "restore", String(orphan.id), "--home", primary.home]);
  assert.equal(twice.code, 3, twice.stderr);
  const logs = primary.tellLogs() + secondary.tellLogs();
  assert.doesNotMatch(logs, /geheim|offen/, "no value is logged");
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
