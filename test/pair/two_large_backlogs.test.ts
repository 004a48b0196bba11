// Both sides write far more in a split than the stream between them holds, and rows are updated here and deleted there with
// the later one to win: neither applier may wait for its relay while that waits for the other's applier.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";

const rows = 60_000;
const steps = 30;

scopedTest("two backlogs that both sides hold back are merged all the same", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql) => {
      await sql.unsafe(`CREATE TABLE t (id bigint PRIMARY KEY, v text, pad text);
        INSERT INTO t SELECT i, 'old', repeat('x', 100) FROM generate_series(1, ${rows}) i`).simple();
    },
  });
  const { primary, secondary, link } = pair;
  for (const node of [primary, secondary]) {
    await node.stop();
    node.configure({ merge: { deletes: "last_update_wins" } });
    node.start();
  }
  await waitSteady(pair);
  link.cut();
  await secondary.waitServing();
  const write = async (node: typeof primary) => {
    const { role } = node;
    const sql = node.app(pair.target);
    const [updated, deleted, shift] = role === "primary" ? [1, 3, 1] : [3, 1, 0];
    for (let n = 0; n < steps; n++) {
      const [first, last] = [n * rows / steps + 1, (n + 1) * rows / steps];
      const among = `id BETWEEN ${first} AND ${last}`;
      await sql.unsafe(`UPDATE t SET v = '${role}' WHERE ${among} AND id % 10 = ${updated}`);
      await sql.unsafe(`DELETE FROM t WHERE ${among} AND id % 1000 = ${deleted}`);
      await sql.unsafe(`INSERT INTO t SELECT ${10 * rows} + i * 2 + ${shift}, '${role}', repeat('y', 400)
        FROM generate_series(${first}, ${last}) i`);
    }
  };
  await Promise.all([write(primary), write(secondary)]);
  link.heal();
  await waitSteady(pair, 120_000);
  await waitEqual(primary.superuser, secondary.superuser);
  const log = await primary.superuser<{ kind: string; count: number }[]>`
    SELECT kind, count(*)::int AS count FROM ha.conflict GROUP BY kind ORDER BY kind`;
  assert.deepEqual(log.map(({ kind, count }) => [kind, count]), [
    ["delete_origin_differs", rows / 1000],
    ["update_deleted", rows / 1000],
  ]);
  await assertNoLeaks(pair);
}, { timeoutMs: 240_000 });
