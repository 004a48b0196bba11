// Every kind of column, table and statement passes from the primary to the secondary, and, after a failover, back.
import assert from "node:assert/strict";
import { waitEqual } from "../helpers/equality.ts";
import { runStatements } from "../helpers/every_statement.ts";
import { everyExtension, insertEveryType, makeEveryType, updateEveryType } from "../helpers/every_type.ts";
import { assertNoLeaks, makePair, waitSteady } from "../helpers/pair.ts";
import { scopedTest } from "../helpers/scope.ts";

for (const version of [15, 18]) {
  scopedTest(`every type and statement on PostgreSQL ${version}`, async (scope) => {
    const pair = await makePair(scope, {
      version,
      load: async (sql, { primary }) => {
        await primary.superuser.unsafe(everyExtension).simple();
        await makeEveryType(sql);
      },
    });
    const { primary, secondary } = pair;
    await waitEqual(primary.superuser, secondary.superuser);
    await runStatements(primary.app(pair.target));
    await waitEqual(primary.superuser, secondary.superuser, 60_000);

    primary.kill();
    await secondary.waitServing();
    const app = secondary.app(pair.target);
    for (const table of [`"Types & more"."Every Type"`, `"Types & more".every_type_full`]) {
      await app.unsafe(insertEveryType(table)).simple();
      await app.unsafe(updateEveryType(table)).simple();
    }
    await app`INSERT INTO no_key VALUES (1, 'from the secondary', 1), (1, 'from the secondary', 1)`;
    await app`UPDATE by_list SET region = 'eu' WHERE region = 'us'`;
    await app`TRUNCATE truncated_alone`;
    await app`INSERT INTO truncated_alone (v) VALUES ('from the secondary')`;
    primary.start();
    await waitSteady(pair);
    await waitEqual(primary.superuser, secondary.superuser);

    const [first] = await primary.superuser`SELECT id FROM truncated_alone`;
    assert.equal(Number(first.id) % 2, 0, "the secondary gives even numbers");
    const conflicts = await primary.superuser`SELECT kind, table_name, row_key, why FROM ha.conflict`;
    assert.deepEqual([...conflicts], [], "one side wrote at a time");
    await assertNoLeaks(pair);
  }, { timeoutMs: 240_000 });
}
