// Tables without a primary key, whose rows are found by all their values; and TRUNCATE against writes. Data only.
import { type ConflictCase, doc, primary, roles, secondary } from "../conflict_case.ts";

const bag = "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'old'), (2, 'old');";
const added = { kind: "update_missing", winner: "both" } as const;

export const noKeyCases: readonly ConflictCase[] = [
  {
    id: "no_key_update_update",
    setup: bag,
    split: [primary("UPDATE t SET b = 'p' WHERE a = 1"), secondary("UPDATE t SET b = 's' WHERE a = 1")],
    rows: { t: ["(1,p)", "(1,s)", "(2,old)"] },
    conflicts: [{ ...added, secondaryRow: { a: "1", b: "s" } }],
  },
  {
    id: "no_key_update_here_delete_there",
    setup: bag,
    split: [primary("UPDATE t SET b = 'p' WHERE a = 1"), secondary("DELETE FROM t WHERE a = 1")],
    rows: { t: ["(1,p)", "(2,old)"] },
    conflicts: [],
  },
  {
    id: "no_key_delete_here_update_there",
    setup: bag,
    split: [primary("DELETE FROM t WHERE a = 1"), secondary("UPDATE t SET b = 's' WHERE a = 1")],
    rows: { t: ["(1,s)", "(2,old)"] },
    conflicts: [{ ...added, secondaryRow: { a: "1", b: "s" } }],
  },
  {
    id: "no_key_update_update_several_times",
    setup: bag,
    split: [
      primary("UPDATE t SET b = 'p1' WHERE a = 1"),
      secondary("UPDATE t SET b = 's1' WHERE a = 1"),
      primary("UPDATE t SET b = 'p2' WHERE a = 1"),
      secondary("UPDATE t SET b = 's2' WHERE a = 1"),
    ],
    rows: { t: ["(1,p2)", "(1,s2)", "(2,old)"] },
    conflicts: [{ ...added, several: true }],
  },
  {
    id: "no_key_same_row_inserted_on_both",
    setup: bag,
    split: [primary("INSERT INTO t VALUES (3, 'same')"), secondary("INSERT INTO t VALUES (3, 'same')")],
    rows: { t: ["(1,old)", "(2,old)", "(3,same)", "(3,same)"] },
    conflicts: [],
  },
  {
    id: "no_key_duplicates",
    setup: "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'd'), (1, 'd'), (1, 'd');",
    split: [
      primary("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)"),
      secondary("UPDATE t SET b = 's' WHERE ctid = (SELECT max(ctid) FROM t)"),
    ],
    rows: { t: ["(1,d)", "(1,s)"] },
    conflicts: [],
  },
  {
    id: "no_key_duplicates_deleted_on_both",
    setup: "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'd'), (1, 'd'), (1, 'd');",
    split: roles.map((who) => ({ who, sql: "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)" })),
    rows: { t: ["(1,d)"] },
    conflicts: [],
  },
  {
    id: "no_key_nulls",
    setup: "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (NULL, NULL), (1, NULL);",
    split: [
      primary("INSERT INTO t VALUES (2, NULL)"),
      secondary("UPDATE t SET b = 's' WHERE a IS NULL; DELETE FROM t WHERE a = 1"),
    ],
    rows: { t: ["(,s)", "(2,)"] },
    conflicts: [],
  },
];

export const truncateCases: readonly ConflictCase[] = [
  {
    id: "truncate_here_writes_there",
    setup: doc,
    split: [primary("TRUNCATE t"), secondary("UPDATE t SET v = 's' WHERE id = 1; INSERT INTO t VALUES (9, 's')")],
    rows: { t: ["(1,s)", "(9,s)"] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary", primaryRow: null }],
  },
  {
    id: "truncate_here_writes_there_delete_wins",
    policy: { deletes: "delete_wins" },
    setup: doc,
    split: [primary("TRUNCATE t"), secondary("UPDATE t SET v = 's' WHERE id = 1; INSERT INTO t VALUES (9, 's')")],
    rows: { t: ["(9,s)"] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "primary", secondaryRow: { v: "s" } }],
  },
  ...roles.map((later): ConflictCase => {
    const steps = [primary("TRUNCATE t"), secondary("UPDATE t SET v = 's' WHERE id = 1")];
    return {
      id: `truncate_here_update_there_last_${later}_later`,
      policy: { deletes: "last_update_wins" },
      setup: doc,
      split: later === "secondary" ? steps : steps.reverse(),
      rows: { t: later === "secondary" ? ["(1,s)"] : [] },
      conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: later, policy: "last_update_wins" }],
    };
  }),
  {
    id: "truncate_there_update_here",
    setup: doc,
    split: [secondary("TRUNCATE t"), primary("UPDATE t SET v = 'p' WHERE id = 1")],
    rows: { t: ["(1,p)"] },
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "primary", primaryRow: { v: "p" } }],
  },
  {
    id: "truncate_there_update_here_delete_wins",
    policy: { deletes: "delete_wins" },
    setup: doc,
    split: [secondary("TRUNCATE t"), primary("UPDATE t SET v = 'p' WHERE id = 1")],
    rows: { t: [] },
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "secondary", primaryRow: { v: "p" } }],
  },
  {
    id: "truncate_there_insert_here",
    setup: doc,
    split: [secondary("TRUNCATE t"), primary("INSERT INTO t VALUES (9, 'p')")],
    rows: { "SELECT t::text FROM t WHERE id = 9": ["(9,p)"], "SELECT count(*)::text FROM t": ["1"] },
    // Whether a row that stands here was updated or inserted cannot be told: it may be logged.
    conflicts: [{ kind: "delete_origin_differs", key: { id: "9" }, winner: "primary", several: true }],
  },
  {
    id: "truncate_on_both",
    setup: doc,
    split: [primary("TRUNCATE t"), secondary("TRUNCATE t")],
    rows: { t: [] },
    conflicts: [],
  },
  {
    id: "truncate_and_fill_there_update_here",
    setup: doc,
    split: [
      primary("UPDATE t SET v = 'p' WHERE id = 1"),
      secondary("BEGIN; TRUNCATE t; INSERT INTO t VALUES (1, 'fresh'), (3, 'fresh'); COMMIT"),
    ],
    rows: { t: ["(1,fresh)", "(3,fresh)"] },
    conflicts: [
      { kind: "delete_origin_differs", key: { id: "1" }, winner: "primary", primaryRow: { v: "p" } },
      { kind: "insert_exists", key: { id: "1" }, winner: "secondary", secondaryRow: { v: "fresh" } },
    ],
  },
  {
    id: "truncate_and_fill_here_update_there",
    setup: doc,
    split: [
      primary("BEGIN; TRUNCATE t; INSERT INTO t VALUES (1, 'fresh'), (3, 'fresh'); COMMIT"),
      secondary("UPDATE t SET v = 's'"),
    ],
    rows: { t: ["(1,s)", "(2,s)", "(3,fresh)"] },
    conflicts: [
      { kind: "update_origin_differs", key: { id: "1" }, winner: "secondary" },
      { kind: "update_deleted", key: { id: "2" }, winner: "secondary" },
    ],
  },
  {
    id: "truncate_here_without_key_writes_there",
    setup: "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'old'), (2, 'old');",
    split: [primary("TRUNCATE t"), secondary("UPDATE t SET b = 's' WHERE a = 1; INSERT INTO t VALUES (9, 's')")],
    rows: { t: ["(1,s)", "(9,s)"] },
    conflicts: [{ ...added, secondaryRow: { a: "1", b: "s" } }],
  },
];
