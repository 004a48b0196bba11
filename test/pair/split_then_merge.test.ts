// The link between the nodes fails while both are alive. Both are written, without overlap; when the link is back,
// both hold everything and nothing is called a conflict.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";
import { checkHistory, makeTpcb, startTpcb, tpcbSums } from "../helpers/tpcb.ts";
import { changePassword, makeVault } from "../helpers/vault.ts";
import { waitFor } from "../helpers/wait.ts";

scopedTest("both sides are written during a split, and both are equal after it", async (scope) => {
  const pair = await makePair(scope, {
    link: true,
    load: async (sql) => {
      await makeTpcb(sql, { branches: 2 });
      await makeVault(sql);
    },
  });
  const { primary, secondary, link } = pair;
  link.cut();
  await secondary.waitServing();
  const alone = await primary.waitStatus("serving alone", (s) => s.node.state === "serving" && !s.peer.reachable);
  assert.ok(alone.node.writable, "the primary goes on in a split");

  const sides = [primary, secondary].map((node, index) => {
    const hosts = [{ host: node.host, port: node.pgPort }];
    const load = startTpcb({ ...pair.target, hosts }, {
      ...{ clients: 2, branches: 2, name: node.role.slice(0, 3), thinkMs: 2, share: { index, of: 2 } },
    });
    scope.defer("load", async () => void await load.stop());
    return load;
  });
  for (const [index, node] of [primary, secondary].entries()) {
    const app = node.app(pair.target);
    for (let n = 1; n <= 40; n++) await changePassword(app, index * 200 + n, 1 + index);
    await app`INSERT INTO vault.account (folder_id, owner_id, title, login)
              SELECT 1, 1, ${"new on the " + node.role} || ' ' || n, 'x' FROM generate_series(1, 50) n`;
    await app`DELETE FROM vault.share WHERE account_id BETWEEN ${index * 200 + 150} AND ${index * 200 + 160}`;
  }
  for (const load of sides) await waitFor(() => load.acknowledged >= 300, { what: "300 on each", deadlineMs: 30_000 });
  const reports = await Promise.all(sides.map((load) => load.stop()));
  for (const report of reports) assert.deepEqual(report.errors, []);

  link.heal();
  await waitSteady(pair);
  await waitEqual(primary.superuser, secondary.superuser);
  assert.deepEqual(await checkHistory(primary.superuser, reports), { missing: [], doubled: [], invented: [] });
  const sums = await tpcbSums(secondary.superuser);
  assert.equal(new Set(Object.values(sums)).size, 1, JSON.stringify(sums));
  const [{ made }] = await secondary.superuser`
    SELECT count(*)::int AS made FROM vault.account WHERE title LIKE 'new on the %'`;
  assert.equal(made, 100, "sequences are odd on one side and even on the other, so no key was given twice");
  const [{ conflicts }] = await primary.superuser`SELECT count(*)::int AS conflicts FROM ha.conflict`;
  assert.equal(conflicts, 0, "what does not overlap is no conflict");
  const status = await primary.status();
  assert.equal(status.conflicts.total, 0);
  await assertNoLeaks(pair);
}, { timeoutMs: 180_000 });
