// Sequences that follow those of the peer, on real servers: what is told, what is made of it, and that no value ever comes
// twice; and the look at all sequences, which has to agree with the rule that mends them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { applyPositions } from "../../agent/apply/positions.ts";
import { sequencesPrefix } from "../../agent/change/marks.ts";
import { SequenceWatch } from "../../agent/node/sequence_watch.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import {
  advanceSequences,
  ensureSequences,
  isDue,
  mendSequence,
  readSequences,
} from "../../agent/postgres/sequences.ts";
import { closeGuard, ensureNode, openGuard } from "../../agent/role/guard.ts";
import { versions, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

const state = { dbname: "postgres", epoch: 1, state: "serving" };

async function become(sql: Sql, role: "primary" | "secondary"): Promise<void> {
  await migrate(sql);
  await ensureNode(sql, { node: role, role });
  await openGuard(sql, state);
  await ensureSequences(sql, role);
}

async function take(sql: Sql, name: string, count = 2): Promise<string[]> {
  const rows = await sql`SELECT nextval(${name}::regclass)::text AS v FROM generate_series(1, ${count}::int)`;
  return rows.map((row) => row.v);
}

/** As the peer's stream brings it. */
const tell = (sql: Sql, positions: Record<string, string>) =>
  applyPositions(
    sql,
    JSON.stringify(Object.entries(positions).map(([name, last]) => ({ schema: "public", name, last }))),
  );

const pending = async (sql: Sql) =>
  (await sql`SELECT sequence_name AS name, last_value::text AS last FROM ha.sequence_position ORDER BY 1`)
    .map((row) => `${row.name} ${row.last}`);

for (const version of versions) {
  test(`PostgreSQL ${version}: a sequence goes on beyond what the peer has told, never back`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async ({ pool }) => {
      const sql = pool();
      await sql.unsafe(`
        CREATE SEQUENCE up; CREATE SEQUENCE ten INCREMENT 10 START 7; CREATE SEQUENCE down INCREMENT -1;
        CREATE SEQUENCE down3 INCREMENT -3 START -1; CREATE SEQUENCE round MAXVALUE 2000 CYCLE;
        CREATE SEQUENCE short MAXVALUE 100; CREATE SEQUENCE ahead; CREATE SEQUENCE "Größe"; CREATE SEQUENCE idle;
        CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY)`);
      await become(sql, "secondary");
      await take(sql, "ahead", 100);
      const all = {
        ...{ up: "5000", ten: "5000", down: "-5000", down3: "-5000", round: "999", short: "99", ahead: "150" },
        ...{ "Größe": "8", t_id_seq: "1233", later: "70", gone: "5" },
      };
      await tell(sql, all);
      assert.deepEqual(await take(sql, "up", 1), ["2"], "only once it is looked after");
      assert.deepEqual(
        (await ensureSequences(sql, "secondary")).sort(),
        ['public."Größe"', "public.down", "public.down3", "public.short", "public.t_id_seq", "public.ten", "public.up"],
      );
      // Or the peer would move in its turn, and so on without end.
      for (const { name, given } of await readSequences(sql)) {
        if (name in all && name !== "ahead" && name !== "round") {
          const reached = Math.abs(Number(all[name as keyof typeof all]));
          assert.ok(Math.abs(Number(given)) <= reached, `${name} has moved to ${given}, beyond ${reached}`);
        }
      }
      assert.deepEqual(await pending(sql), ["gone 5", "later 70"], "kept for sequences that are not here yet");
      assert.deepEqual(await take(sql, "up"), ["5002", "5004"]);
      assert.deepEqual(await take(sql, "ten"), ["5007", "5027"]);
      assert.deepEqual(await take(sql, "down"), ["-5002", "-5004"]);
      assert.deepEqual(await take(sql, "down3"), ["-5002", "-5008"]); // floor(-5002 / 3) = -1668 is even
      assert.deepEqual(await take(sql, "round"), ["2", "4"], "a cycle is left alone");
      assert.deepEqual(await take(sql, "short", 1), ["100"]);
      assert.deepEqual(await take(sql, "ahead"), ["202", "204"]);
      assert.deepEqual(await take(sql, '"Größe"'), ["10", "12"]);
      await sql`INSERT INTO t DEFAULT VALUES`;
      assert.equal((await sql`SELECT id FROM t`)[0].id, 1234);
      assert.deepEqual((await readSequences(sql)).filter(isDue), []);

      // All at once, as before the guard opens.
      await tell(sql, { up: "5500", down: "-5500", ahead: "7", round: "7", gone: "5", later: "70", "Größe": "100" });
      assert.equal(await advanceSequences(sql), 3);
      assert.deepEqual(await pending(sql), ["gone 5", "later 70"]);
      assert.deepEqual(await take(sql, "up"), ["5502", "5504"]);
      assert.deepEqual(await take(sql, "down", 1), ["-5502"]);

      // The peer's sequence was set back: here nothing comes again.
      await tell(sql, { up: "3" });
      assert.deepEqual(await ensureSequences(sql, "secondary"), []);
      assert.deepEqual(await take(sql, "up"), ["5506", "5508"]);
      // Exactly level, and one value ahead.
      await tell(sql, { up: "5510", ten: "5046" });
      await ensureSequences(sql, "secondary");
      assert.deepEqual(await take(sql, "up", 1), ["5512"]);
      assert.deepEqual(await take(sql, "ten", 1), ["5047"]);
      // Used up there is used up here.
      await tell(sql, { short: "1000", up: "9223372036854775807", down: "-9223372036854775808" });
      await ensureSequences(sql, "secondary");
      await assert.rejects(take(sql, "short", 1), /reached maximum value/);
      await assert.rejects(take(sql, "up", 1), /reached maximum value/);
      await assert.rejects(take(sql, "down", 1), /reached minimum value/);
      assert.deepEqual((await readSequences(sql)).filter(isDue), []);

      await sql`CREATE SEQUENCE later`;
      await ensureSequences(sql, "secondary");
      assert.deepEqual(await take(sql, "later", 1), ["72"]);
      // What was told of a sequence is over with it.
      await tell(sql, { later: "1000", t_id_seq: "5000", gone: "5" });
      await sql`DROP SEQUENCE later`;
      await sql`DROP TABLE t`;
      assert.deepEqual(await pending(sql), ["gone 5"]);
      await applyPositions(sql, "nothing that could be understood");
    });
  });

  test(`PostgreSQL ${version}: the look at all sequences agrees with the rule, and is cheap`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql.unsafe(`
        CREATE SEQUENCE up; CREATE SEQUENCE three INCREMENT 3 MINVALUE -10 MAXVALUE 20 START 5; CREATE SEQUENCE down INCREMENT -7;
        CREATE SEQUENCE two MAXVALUE 2; CREATE SEQUENCE round MINVALUE 0 MAXVALUE 9 CYCLE;
        CREATE SEQUENCE back INCREMENT -2 MINVALUE -9 MAXVALUE 0 CYCLE; CREATE SEQUENCE tiny MAXVALUE 2 CYCLE;
        CREATE SEQUENCE wide MINVALUE -9223372036854775808 CYCLE; CREATE SEQUENCE huge INCREMENT 9223372036854775807`);
      const app = client();
      const agrees = async () => {
        for (const { oid, label, fits, tooLarge } of await readSequences(sql)) {
          const [{ changed }] = await sql.begin(async (tx) => {
            const found =
              await tx`WITH before AS MATERIALIZED (SELECT updated_at FROM ha.sequence WHERE sequence = ${oid})
              SELECT ha.ensure_sequence(${oid}, true) AS changed FROM (SELECT count(*) FROM before) b`;
            const [now] = await tx`SELECT updated_at = now() AS changed FROM ha.sequence WHERE sequence = ${oid}`;
            return [{ changed: found[0].changed || (now?.changed ?? false) }];
          });
          assert.equal(changed, !fits && !tooLarge, `${label}: changed ${changed}, fits ${fits}`);
        }
      };
      await migrate(sql);
      for (const role of ["primary", "secondary"] as const) {
        await sql`DELETE FROM ha.state`;
        await ensureNode(sql, { node: role, role });
        await openGuard(sql, state);
        await agrees();
        for (const value of ["1", "2", "5", "-5", "0"]) {
          for (const called of [true, false]) {
            for (const name of ["up", "three", "down", "two", "round", "back", "tiny", "huge"]) {
              // Out of some ranges.
              await app`SELECT setval(${name}::regclass, ${value}, ${called})`.catch((error) => {
                if (error.code !== "22003") throw error;
              });
            }
            await agrees();
          }
        }
        // At once, by the event trigger.
        for (
          const change of [
            ...["up MAXVALUE 500", "up START 2", "up START 3", "three MINVALUE -11 START -11", "three MAXVALUE 21"],
            ...["two MAXVALUE 3", "two MAXVALUE 4", "round MAXVALUE 100", "round MINVALUE 1 START 1", "round NO CYCLE"],
            ...[
              "round CYCLE MINVALUE -2",
              "back MAXVALUE -1",
              "tiny MAXVALUE 3",
              "tiny INCREMENT 2",
              "down MAXVALUE 7",
            ],
            ...["huge INCREMENT 5", "huge INCREMENT 9223372036854775807"],
          ]
        ) {
          await app.unsafe(`ALTER SEQUENCE ${change}`).catch((error) => {
            if (error.code !== "22023") throw error; // the place where the sequence is now is out of the range
          });
          assert.deepEqual((await readSequences(sql)).filter(isDue).map(({ label }) => label), [], change);
          await agrees();
        }
      }
      await app.unsafe("DO $$ BEGIN FOR i IN 1..200 LOOP EXECUTE 'CREATE SEQUENCE many' || i; END LOOP; END $$");
      await readSequences(sql);
      const [plan] = await sql.unsafe("EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM ha.sequence_state");
      const ms = plan["QUERY PLAN"][0]["Execution Time"];
      assert.ok(ms < 200, `200 sequences took ${ms} ms`);
    });
  });

  test(`PostgreSQL ${version}: no value comes twice while the peer's positions come in`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql.unsafe("CREATE SEQUENCE busy; CREATE SEQUENCE cached CACHE 5");
      await become(sql, "secondary");
      const app = client({ max: 4 });
      let going = true;
      const taken: Record<string, string[]> = { busy: [], cached: [] };
      const writers = ["busy", "busy", "cached", "cached"].map(async (name) => {
        while (going) taken[name].push(...await take(app, name, 5));
      });
      try {
        for (let i = 0; i < 20; i++) {
          const given = (await readSequences(sql)).find(({ name }) => name === "busy")!.given;
          const far = String(Number(given) + (i % 4 === 0 ? 1000 : 5));
          await tell(sql, { busy: far, cached: far });
          await ensureSequences(sql, "secondary");
        }
      } finally {
        going = false;
        await Promise.all(writers);
      }
      for (const values of Object.values(taken)) {
        assert.ok(values.length > 0 && values.every((value) => Number(value) % 2 === 0));
        assert.equal(new Set(values).size, values.length);
      }
      assert.ok(Math.max(...taken.busy.map(Number)) > 5000);
    });
  });

  test(`PostgreSQL ${version}: the watch mends, tells what has moved and comes to rest`, {
    timeout: 60_000,
  }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql.unsafe("CREATE SEQUENCE s; CREATE SEQUENCE used; CREATE SEQUENCE round MAXVALUE 10 CYCLE");
      await sql`SELECT nextval('used')`;
      await become(sql, "primary");
      await sql`CREATE PUBLICATION told`;
      await sql`SELECT pg_create_logical_replication_slot('told', 'pgoutput')`;
      const messages = async () => {
        const rows = await sql<{ data: Uint8Array }[]>`SELECT data FROM pg_logical_slot_get_binary_changes('told', NULL,
          NULL, 'proto_version', '1', 'publication_names', 'told', 'messages', 'true')`;
        const texts = rows.map(({ data }) => new TextDecoder().decode(data));
        return texts.filter((text) => text.startsWith("M") && text.includes(sequencesPrefix))
          .map((text) => JSON.parse(text.slice(text.indexOf("[{"))))
          .map((told: { name: string; last: string }[]) => told.map(({ name, last }) => `${name} ${last}`).join());
      };
      const troubles = new Map<string, string | null>();
      const watch = new SequenceWatch({
        sql,
        role: "primary",
        onTrouble: (name, problem) => troubles.set(name, problem?.message ?? null),
      });
      const app = client();
      await watch.tell(true);
      assert.deepEqual(await messages(), ["used 2"], "what nobody has used is not told");
      await watch.tell(true);
      assert.deepEqual(await messages(), []);
      await app`SELECT setval('s', 5000), nextval('round')`;
      watch.start();
      await waitFor(() => troubles.has("sequences"), { what: "the watch to look", deadlineMs: 10_000 });
      await watch.stop();
      assert.match(troubles.get("sequences")!, /: public\.round \(CYCLE over fewer/);
      assert.deepEqual(await messages(), ["s 5000"], "set by the application, taken or not");
      assert.deepEqual(await take(app, "s", 1), ["5001"]);

      // Not when clients may no longer write, but for the last word.
      await closeGuard(sql, state);
      await watch.tell(true);
      assert.deepEqual(await messages(), []);
      await watch.tell();
      assert.deepEqual(await messages(), ["s 5001"]);
      troubles.clear();
      watch.start();
      await waitFor(() => troubles.has("sequences"), { what: "the watch to look again", deadlineMs: 10_000 });
      await watch.stop();
      assert.equal(troubles.get("sequences"), null, "the other node takes writes now");
    }, { settings: { wal_level: "logical" } });
  });

  test(`PostgreSQL ${version}: a sequence that others hold is left to the next turn`, { timeout: 60_000 }, async () => {
    await withServer(version, async ({ pool, client }) => {
      const sql = pool();
      await sql.unsafe("CREATE SEQUENCE held; CREATE SEQUENCE other");
      await become(sql, "primary");
      const app = client();
      let release = () => {};
      const holding = new Promise<void>((resolve) => release = resolve);
      let begun = () => {};
      const hold = new Promise<void>((resolve) => begun = resolve);
      const long = app.begin(async (tx) => {
        await tx`SELECT setval('held', 8)`;
        begun();
        await holding;
      });
      await hold;
      try {
        const [held] = (await readSequences(sql)).filter(isDue);
        assert.equal(held.label, "public.held");
        await assert.rejects(
          mendSequence(sql, held, { lockTimeoutMs: 50, attempts: 1 }),
          /other sessions hold it locked/,
        );
        const troubles: (string | undefined)[] = [];
        const watch = new SequenceWatch({
          sql,
          role: "primary",
          onTrouble: (_, problem) => troubles.push(problem?.message),
        });
        await app`SELECT setval('other', 8)`;
        watch.start();
        await waitFor(() => troubles.length > 0, { what: "the watch to look", deadlineMs: 10_000 });
        await watch.stop();
        assert.match(troubles[0]!, /: public\.held \(they may give out values of the other server's/);
        assert.deepEqual(
          (await readSequences(sql)).filter(isDue).map(({ name }) => name),
          ["held"],
          "no other waits for it",
        );
      } finally {
        release();
        await long;
      }
      assert.deepEqual(await ensureSequences(sql, "primary"), ["public.held"]);
      assert.deepEqual(await take(sql, "held", 1), ["9"]);
    });
  });
}
