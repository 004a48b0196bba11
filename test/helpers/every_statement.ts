// Statements of every kind over the tables of every_type.ts, in the order in which they must be run.
// Each is one transaction, unless it holds its own BEGIN. Names say what is special about it.
import type { Sql } from "../../agent/postgres/connect.ts";
import { insertEveryType, updateEveryType } from "./every_type.ts";

const every = `"Types & more"."Every Type"`;
const everyFull = `"Types & more".every_type_full`;
const quoted = `"Quoted ""Schema"";--"."Table ""x""; DROP"`;

export const statements: readonly [name: string, sql: string][] = [
  ["every type: insert", insertEveryType(every)],
  ["every type: update", updateEveryType(every)],
  ["every type: delete", `DELETE FROM ${every} WHERE id IN (4, 5)`],
  ["every type: insert, replica identity full", insertEveryType(everyFull)],
  ["every type: update, replica identity full", updateEveryType(everyFull)],
  ["every type: delete, replica identity full", `DELETE FROM ${everyFull} WHERE id IN (4, 6)`],
  ["generated: insert", "INSERT INTO generated (a, b) SELECT n, 'text ' || n FROM generate_series(1, 20) n"],
  ["generated: update", "UPDATE generated SET a = a + 100 WHERE id <= 10"],
  ["generated: delete", "DELETE FROM generated WHERE id = 3"],
  ["identity always, overridden", "INSERT INTO generated (id, a) OVERRIDING SYSTEM VALUE VALUES (1001, 1)"],
  ["only key columns", "INSERT INTO only_key VALUES (1, 'a'), (1, 'b'), (2, 'a')"],
  ["only key columns: key change", "UPDATE only_key SET a = a + 10 WHERE b = 'a'"],
  ["only key columns: delete", "DELETE FROM only_key WHERE a = 11"],
  ["no key: insert duplicates", "INSERT INTO no_key VALUES (0, 'dup', 1.50), (0, 'dup', 1.5), (NULL, NULL, NULL)"],
  [
    "no key: update of some of the duplicates",
    `UPDATE no_key SET b = 'one of them' WHERE ctid IN
    (SELECT ctid FROM no_key WHERE a = 1 LIMIT 1)`,
  ],
  ["no key: update of all duplicates", "UPDATE no_key SET c = c + 1 WHERE a = 2"],
  ["no key: delete of one duplicate", `DELETE FROM no_key WHERE ctid IN (SELECT ctid FROM no_key WHERE a = 0 LIMIT 1)`],
  ["no key: rows of NULLs", "UPDATE no_key SET b = 'was null' WHERE a IS NULL"],
  ["full identity with key", "INSERT INTO full_identity SELECT n, 'v', n FROM generate_series(1, 20) n"],
  ["full identity: key change", "UPDATE full_identity SET id = id + 100, w = NULL WHERE id % 2 = 0"],
  ["full identity: delete", "DELETE FROM full_identity WHERE id % 3 = 0"],
  ["using index", "INSERT INTO using_index SELECT n, 'c' || n, 'v' FROM generate_series(1, 20) n"],
  ["using index: update", "UPDATE using_index SET v = 'w', id = id + 1000 WHERE id < 5"],
  ["using index: change of the indexed column", "UPDATE using_index SET code = code || 'x' WHERE id % 2 = 0"],
  ["using index: delete", "DELETE FROM using_index WHERE code LIKE 'c1%'"],
  [
    "key columns last and swapped",
    `INSERT INTO key_last SELECT 'v' || n, jsonb_build_object('n', n),
    md5(n::text)::uuid, n FROM generate_series(1, 50) n`,
  ],
  ["key columns last: update", `UPDATE key_last SET w = w || '{"x": 1}', v = NULL WHERE k1 % 2 = 0`],
  ["key columns last: key change", "UPDATE key_last SET k1 = -k1 WHERE k1 % 5 = 0"],
  ["key columns last: delete", "DELETE FROM key_last WHERE k1 % 7 = 0"],
  ["TOAST: values unchanged by the update", "UPDATE big SET n = n + 1"],
  ["TOAST: one of them changed", "UPDATE big SET external = external || 'x' WHERE id = 2"],
  ["TOAST: key changed, values not", "UPDATE big SET id = id + 10 WHERE id = 3"],
  [
    "TOAST: changed and unchanged in one transaction",
    `BEGIN; UPDATE big SET plain = plain || 'y' WHERE id = 1;
    UPDATE big SET n = 99 WHERE id = 1; COMMIT`,
  ],
  [
    "TOAST: inserted and updated in one transaction",
    `BEGIN; INSERT INTO big SELECT 50, 1, plain, external, data FROM big
    WHERE id = 1; UPDATE big SET n = 2 WHERE id = 50; COMMIT`,
  ],
  ["TOAST: to NULL", "UPDATE big SET data = NULL WHERE id = 2"],
  [
    "a value of 20 MB",
    "UPDATE big SET plain = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 625000) i) WHERE id = 1",
  ],
  [
    "columns dropped and added",
    "INSERT INTO dropped_column VALUES (2, 'two', NULL); UPDATE dropped_column SET v = 'x' WHERE id = 1",
  ],
  ["defaults that differ each time", "INSERT INTO defaults (v) SELECT 'v' FROM generate_series(1, 20)"],
  ["rows without columns", "INSERT INTO empty_row DEFAULT VALUES"],
  [
    "list partitions",
    `INSERT INTO by_list SELECT (ARRAY['eu','uk','us','xx'])[1 + n % 4], n, 'v' FROM generate_series(1, 40) n`,
  ],
  ["list partitions: update within", "UPDATE by_list SET v = 'w' WHERE id % 2 = 0"],
  ["list partitions: rows move", "UPDATE by_list SET region = 'us' WHERE region IN ('eu', 'xx') AND id % 3 = 0"],
  ["list partitions: to the default one", "UPDATE by_list SET region = 'zz' WHERE region = 'uk' AND id % 3 = 1"],
  ["list partitions: delete", "DELETE FROM by_list WHERE id % 5 = 0"],
  [
    "range partitions without key",
    `INSERT INTO by_range SELECT '2025-06-01'::date + n * 20, n, 'v' FROM generate_series(1, 25) n`,
  ],
  ["range partitions: rows move", "UPDATE by_range SET day = day + 365 WHERE day < '2025-10-01'"],
  ["range partitions: delete", "DELETE FROM by_range WHERE id % 4 = 0"],
  ["partition: truncate one", "TRUNCATE by_list_us"],
  [
    "quoted names",
    `INSERT INTO ${quoted} VALUES (1, 'x', 'ü', 2), (2, NULL, '', NULL); UPDATE ${quoted} SET "select" = 'y', "a.b" = 3
    WHERE "Key ""k""" = 2; DELETE FROM ${quoted} WHERE "Key ""k""" = 1`,
  ],
  [
    "same name in another schema",
    "INSERT INTO other.no_key VALUES (1, 'other', 1), (1, 'other', 1); DELETE FROM other.no_key WHERE ctid = '(0,1)'",
  ],
  [
    "reference to itself: child before parent",
    `BEGIN; INSERT INTO tree VALUES (100, NULL, 'p'); INSERT INTO tree VALUES (101, 100, 'c');
    UPDATE tree SET parent_id = 101 WHERE id = 2; COMMIT`,
  ],
  ["reference to itself: delete from the leaves", "DELETE FROM tree WHERE id BETWEEN 16 AND 31"],
  ["cascading update", "UPDATE parent SET id = id + 1000 WHERE id IN (1, 2)"],
  ["cascading delete", "DELETE FROM parent WHERE id IN (3, 1001)"],
  ["deferred circle", `BEGIN; INSERT INTO hen VALUES (1, 1), (2, 2); INSERT INTO egg VALUES (1, 1), (2, 2); COMMIT`],
  ["deferred circle: away with it", `BEGIN; DELETE FROM egg WHERE id = 1; DELETE FROM hen WHERE id = 1; COMMIT`],
  ["unique values swapped", `BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE place SET pos = 6 - pos; COMMIT`],
  ["primary keys shifted", "UPDATE place SET id = id + 100"],
  [
    "primary keys swapped in one transaction",
    `BEGIN; UPDATE place SET id = 0 WHERE id = 101; UPDATE place SET id = 101 WHERE id = 102;
    UPDATE place SET id = 102 WHERE id = 0; COMMIT`,
  ],
  [
    "unique value freed and taken again",
    `BEGIN; DELETE FROM place WHERE pos = 1; INSERT INTO place VALUES (500, 1); COMMIT`,
  ],
  [
    "exclusion constraint",
    `BEGIN; INSERT INTO booking VALUES (1, 1, '[1,5)'), (2, 1, '[5,9)'); DELETE FROM booking WHERE id = 1;
    INSERT INTO booking VALUES (3, 1, '[2,5)'); COMMIT`,
  ],
  [
    "one row, many times in one transaction",
    `BEGIN; INSERT INTO moved VALUES (1, 'a'); UPDATE moved SET v = 'b'; UPDATE moved SET id = 2;
    UPDATE moved SET v = 'c'; DELETE FROM moved; INSERT INTO moved VALUES (1, 'again'), (2, 'b'); UPDATE moved SET id = 3 WHERE id = 1; COMMIT`,
  ],
  ["one row over many transactions", "INSERT INTO upserted VALUES (1, 0)"],
  ...Array.from({ length: 30 }, (_, n): [string, string] => [
    `upsert ${n}`,
    `INSERT INTO upserted VALUES (${n % 5}, 1) ON CONFLICT (id) DO UPDATE SET n = upserted.n + 1`,
  ]),
  [
    "merge statement",
    `MERGE INTO upserted u USING (VALUES (1), (77)) s (id) ON u.id = s.id WHEN MATCHED THEN UPDATE SET n = u.n + 10
    WHEN NOT MATCHED THEN INSERT VALUES (s.id, -1)`,
  ],
  ["triggers fire once only", "INSERT INTO triggered (id, v) SELECT n, 'v' FROM generate_series(1, 5) n"],
  ["triggers: update", "UPDATE triggered SET v = 'w' WHERE id < 4"],
  [
    "savepoints rolled back",
    `BEGIN; INSERT INTO upserted VALUES (200, 1); SAVEPOINT a; INSERT INTO upserted VALUES (201, 1);
    DELETE FROM upserted WHERE id = 1; ROLLBACK TO a; SAVEPOINT b; INSERT INTO upserted VALUES (202, 1); RELEASE b; COMMIT`,
  ],
  ["rolled back whole", "BEGIN; INSERT INTO upserted VALUES (300, 1); TRUNCATE moved; ROLLBACK"],
  [
    "an error caught inside",
    `DO $$ BEGIN INSERT INTO upserted VALUES (400, 1); BEGIN INSERT INTO upserted VALUES (400, 2);
    EXCEPTION WHEN unique_violation THEN INSERT INTO upserted VALUES (401, 1); END; END $$`,
  ],
  ["nothing changed", "UPDATE upserted SET n = n"],
  ["nothing found", "DELETE FROM upserted WHERE id = -1"],
  ["truncate cascade", "TRUNCATE truncated CASCADE"],
  [
    "truncate, several, and rows after it",
    `BEGIN; INSERT INTO truncated_alone (v) VALUES ('before'); TRUNCATE truncated_alone, moved RESTART IDENTITY;
    INSERT INTO truncated_alone (id, v) VALUES (1, 'after'); COMMIT`,
  ],
  [
    "a large transaction of several tables",
    `BEGIN; INSERT INTO no_key SELECT n, 'bulk', n FROM generate_series(1, 3000) n;
    INSERT INTO full_identity SELECT n, 'bulk', n FROM generate_series(1000, 20000) n; UPDATE full_identity SET w = -w WHERE id > 5000;
    DELETE FROM full_identity WHERE id > 15000; INSERT INTO by_list SELECT 'eu', n, 'bulk' FROM generate_series(1000, 6000) n;
    UPDATE by_list SET region = 'us' WHERE id > 4000 AND id <= 6000; COMMIT`,
  ],
  ["a large update of rows without key", "UPDATE no_key SET b = 'bulk 2' WHERE b = 'bulk' AND a % 10 = 0"],
];

/** Runs them all, in order; the name of one that fails is in the error. */
export async function runStatements(sql: Sql): Promise<void> {
  const one = await sql.reserve();
  try {
    for (const [name, text] of statements) {
      try {
        await one.unsafe(text).simple();
      } catch (error) {
        throw new Error(`Cannot run "${name}": ${error instanceof Error ? error.message : error}`, { cause: error });
      }
    }
  } finally {
    one.release();
  }
}
