// Both sides change the same rows during a split. The last update wins, on both sides; each conflict is in ha.conflict on
// both sides with both versions whole; an edit that saw the other is no conflict.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";

interface Conflict {
  kind: string;
  key: { id: string };
  winner: string;
  primary_row: Record<string, string> | null;
  secondary_row: Record<string, string> | null;
  policy: string;
  why: string;
}

scopedTest("overlapping changes: the last update wins and every conflict is logged on both sides", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql) => {
      await sql`CREATE TABLE doc (id int PRIMARY KEY, v text, n int DEFAULT 0)`;
      await sql`INSERT INTO doc SELECT n, 'old', n FROM generate_series(1, 100) n`;
    },
  });
  const { primary, secondary, link } = pair;
  const [a, b] = [primary.app(pair.target), secondary.app(pair.target)];
  link.cut();
  await secondary.waitServing();

  // Ids tell the case: each pair of statements is far enough apart that the commit times order them.
  await a`UPDATE doc SET v = 'primary' WHERE id IN (1, 3, 10)`;
  await b`UPDATE doc SET v = 'secondary' WHERE id = 2`;
  await a`INSERT INTO doc (id, v) VALUES (201, 'primary')`;
  await b`INSERT INTO doc (id, v) VALUES (202, 'secondary')`;
  await a`DELETE FROM doc WHERE id IN (4, 6)`;
  await b`DELETE FROM doc WHERE id IN (5, 6)`;
  await pause(50);
  await b`UPDATE doc SET v = 'secondary' WHERE id IN (1, 3)`;
  await a`UPDATE doc SET v = 'primary' WHERE id = 2`;
  await b`INSERT INTO doc (id, v) VALUES (201, 'secondary')`;
  await a`INSERT INTO doc (id, v) VALUES (202, 'primary')`;
  await b`UPDATE doc SET v = 'secondary' WHERE id = 4`;
  await a`UPDATE doc SET v = 'primary' WHERE id = 5`;
  await pause(50);
  await a`UPDATE doc SET v = 'primary again' WHERE id = 3`;
  await b`UPDATE doc SET v = 'secondary' WHERE id = 11`;

  link.heal();
  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser);

  const rows = await primary.superuser<{ id: number; v: string }[]>`
    SELECT id, v FROM doc WHERE id IN (1, 2, 3, 4, 5, 6, 10, 11, 201, 202) ORDER BY id`;
  assert.deepEqual(Object.fromEntries(rows.map((row) => [row.id, row.v])), {
    1: "secondary", // the secondary's update was later
    2: "primary",
    3: "primary again",
    4: "secondary", // updated there, deleted here: the update wins
    5: "primary",
    10: "primary", // changed on one side only
    11: "secondary",
    201: "secondary", // inserted on both: the later one
    202: "primary",
  });

  const conflictsOf = async (sql: typeof primary.superuser) => [
    ...await sql<Conflict[]>`
      SELECT kind, row_key AS key, winner, primary_row, secondary_row, policy, why FROM ha.conflict
      ORDER BY (row_key ->> 'id')::int, kind, id`,
  ];
  const here = await conflictsOf(primary.superuser);
  assert.deepEqual(await conflictsOf(secondary.superuser), here, "the log is the same on both sides");
  const of = (id: number) => here.filter((conflict) => conflict.key.id === String(id));
  for (const id of [1, 2, 3, 4, 5, 201, 202]) assert.ok(of(id).length >= 1, `a conflict over row ${id} is logged`);
  for (const id of [6, 10, 11]) assert.deepEqual(of(id), [], `row ${id} was no conflict`);
  assert.equal(of(1)[0].kind, "update_origin_differs");
  assert.equal(of(1).at(-1)?.winner, "secondary");
  assert.equal(of(2).at(-1)?.winner, "primary");
  assert.equal(of(1)[0].primary_row?.v, "primary");
  assert.equal(of(1)[0].secondary_row?.v, "secondary");
  assert.equal(of(201)[0].kind, "insert_exists");
  assert.equal(of(4)[0].kind, "update_deleted");
  assert.equal(of(5)[0].kind, "delete_origin_differs");
  assert.ok(here.every((conflict) => conflict.policy && conflict.why), "each says its policy and why");
  for (const node of [primary, secondary]) {
    await node.waitStatus("with every conflict counted", ({ conflicts }) => conflicts.total === here.length);
  }

  // What one saw of the other is no conflict, however soon it comes.
  for (let turn = 0; turn < 3; turn++) await a`UPDATE doc SET n = n + 1`;
  await waitEqual(primary.superuser, secondary.superuser);
  assert.equal((await conflictsOf(primary.superuser)).length, here.length);
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });

scopedTest(
  "an edit on the secondary of what it had received is no conflict, whatever the order of times",
  async (scope) => {
    const pair = await makePair(scope, {
      load: async (sql) => {
        await sql`CREATE TABLE doc (id int PRIMARY KEY, v text)`;
        await sql`INSERT INTO doc SELECT n, 'old' FROM generate_series(1, 10) n`;
      },
    });
    const { primary, secondary } = pair;
    await primary.app(pair.target)`UPDATE doc SET v = 'primary'`;
    await waitEqual(primary.superuser, secondary.superuser);
    primary.kill();
    await secondary.waitServing();
    await secondary.app(pair.target)`UPDATE doc SET v = 'secondary' WHERE id <= 5`;
    await secondary.app(pair.target)`DELETE FROM doc WHERE id = 9`;
    primary.start();
    await waitSteady(pair);
    await waitEqual(primary.superuser, secondary.superuser);
    const [{ count }] = await primary.superuser`SELECT count(*)::int AS count FROM doc WHERE v = 'secondary'`;
    assert.equal(count, 5);
    const [{ conflicts }] = await primary.superuser`SELECT count(*)::int AS conflicts FROM ha.conflict`;
    assert.equal(conflicts, 0);
  },
  { timeoutMs: 150_000 },
);
