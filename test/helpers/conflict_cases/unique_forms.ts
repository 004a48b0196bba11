// Unique keys and exclusion constraints of every form: deferrable, partial, over expressions, with NULLs, ranges.
// Data only.
import { type ConflictCase, inOrder, primary, secondary } from "../conflict_case.ts";

/** Both insert what one of the two rules does not allow; the secondary is later, and wins. */
function bothInsert(id: string, setup: string, ofPrimary: string, ofSecondary: string, row: string): ConflictCase {
  return {
    id,
    setup,
    split: inOrder("secondary", `INSERT INTO t VALUES ${ofPrimary}`, `INSERT INTO t VALUES ${ofSecondary}`),
    rows: { t: [row] },
    conflicts: [{ kind: "insert_exists", key: { id: "1" }, winner: "secondary", quarantined: true }],
  };
}

const booking = "CREATE TABLE t (id int PRIMARY KEY, during int4range, EXCLUDE USING gist (during WITH &&));";

const exclusions: readonly ConflictCase[] = [
  {
    id: "exclusion_insert_insert_secondary_later",
    setup: booking,
    split: inOrder("secondary", "INSERT INTO t VALUES (1, '[1,5)')", "INSERT INTO t VALUES (2, '[3,8)')"),
    rows: { t: ['(2,"[3,8)")'] },
    conflicts: [{ kind: "exclusion_differs", key: { id: "1" }, winner: "secondary", quarantined: true }],
  },
  {
    id: "exclusion_insert_insert_primary_later",
    setup: booking,
    split: inOrder("primary", "INSERT INTO t VALUES (1, '[1,5)')", "INSERT INTO t VALUES (2, '[3,8)')"),
    rows: { t: ['(1,"[1,5)")'] },
    conflicts: [{
      ...{ kind: "exclusion_differs", key: { id: "2" }, winner: "primary", quarantined: true },
      ...{ secondaryRow: { during: "[3,8)" } },
    }],
  },
  {
    id: "exclusion_two_blockers",
    setup: booking,
    split: inOrder("secondary", "INSERT INTO t VALUES (1, '[1,4)'), (3, '[6,9)')", "INSERT INTO t VALUES (2, '[3,7)')"),
    rows: { t: ['(2,"[3,7)")'] },
    conflicts: ["1", "3"].map((id) => ({
      ...{ kind: "exclusion_differs", key: { id }, winner: "secondary" as const, quarantined: true },
    })),
  },
  {
    id: "exclusion_update_update",
    policy: { unique: "primary_wins" },
    setup: `${booking} INSERT INTO t VALUES (1, '[1,2)'), (2, '[2,3)');`,
    split: inOrder(
      "secondary",
      "UPDATE t SET during = '[10,12)' WHERE id = 1",
      "UPDATE t SET during = '[11,13)' WHERE id = 2",
    ),
    rows: { t: ['(1,"[10,12)")', '(2,"[2,3)")'] },
    conflicts: [{ kind: "exclusion_differs", key: { id: "2" }, winner: "primary", quarantined: true }],
  },
];

export const uniqueFormCases: readonly ConflictCase[] = [
  bothInsert(
    "unique_partial",
    "CREATE TABLE t (id int PRIMARY KEY, code text, active bool); CREATE UNIQUE INDEX ON t (code) WHERE active;",
    "(1, 'x', true)",
    "(2, 'x', true)",
    "(2,x,t)",
  ),
  {
    id: "unique_partial_not_met",
    setup: "CREATE TABLE t (id int PRIMARY KEY, code text, active bool); CREATE UNIQUE INDEX ON t (code) WHERE active;",
    split: [primary("INSERT INTO t VALUES (1, 'x', true)"), secondary("INSERT INTO t VALUES (2, 'x', false)")],
    rows: { t: ["(1,x,t)", "(2,x,f)"] },
    conflicts: [],
  },
  bothInsert(
    "unique_expression",
    "CREATE TABLE t (id int PRIMARY KEY, mail text); CREATE UNIQUE INDEX ON t (lower(mail));",
    "(1, 'Foo')",
    "(2, 'fOO')",
    "(2,fOO)",
  ),
  bothInsert(
    "unique_nulls_not_distinct",
    "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE NULLS NOT DISTINCT);",
    "(1, NULL)",
    "(2, NULL)",
    "(2,)",
  ),
  {
    id: "unique_nulls_distinct",
    setup: "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE);",
    split: [primary("INSERT INTO t VALUES (1, NULL)"), secondary("INSERT INTO t VALUES (2, NULL)")],
    rows: { t: ["(1,)", "(2,)"] },
    conflicts: [],
  },
  bothInsert(
    "unique_two_columns",
    "CREATE TABLE t (id int PRIMARY KEY, a int, b int, UNIQUE (a, b));",
    "(1, 5, 6)",
    "(2, 5, 6)",
    "(2,5,6)",
  ),
  bothInsert(
    "unique_generated_column",
    `CREATE TABLE t (id int PRIMARY KEY, a int, double int GENERATED ALWAYS AS (a * 2) STORED UNIQUE);`,
    "(1, 5)",
    "(2, 5)",
    "(2,5,10)",
  ),
  bothInsert(
    "unique_deferrable",
    "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE DEFERRABLE INITIALLY DEFERRED);",
    "(1, 'x')",
    "(2, 'x')",
    "(2,x)",
  ),
  {
    // The cases after this one go on writing at the secondary: that is no part of this row's time.
    id: "unique_deferrable_primary_later",
    setup: "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE DEFERRABLE INITIALLY DEFERRED);",
    split: inOrder("primary", "INSERT INTO t VALUES (1, 'x')", "INSERT INTO t VALUES (2, 'x')"),
    rows: { t: ["(1,x)"] },
    conflicts: [{ kind: "insert_exists", key: { id: "2" }, winner: "primary", quarantined: true }],
  },
  {
    id: "unique_deferrable_swapped_there",
    setup: `CREATE TABLE t (id int PRIMARY KEY, pos int UNIQUE DEFERRABLE INITIALLY DEFERRED);
      INSERT INTO t VALUES (1, 1), (2, 2);`,
    split: [primary("INSERT INTO t VALUES (3, 3)"), secondary("UPDATE t SET pos = 3 - pos WHERE id < 3")],
    rows: { t: ["(1,2)", "(2,1)", "(3,3)"] },
    conflicts: [],
  },
  {
    id: "unique_rotated_there_through_another_value",
    setup: `CREATE TABLE t (id int PRIMARY KEY, pos int UNIQUE); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3);`,
    split: [
      primary("INSERT INTO t VALUES (4, 4)"),
      secondary("UPDATE t SET pos = pos + 10; UPDATE t SET pos = 1 + (pos - 10) % 3"),
    ],
    rows: { t: ["(1,2)", "(2,3)", "(3,1)", "(4,4)"] },
    conflicts: [],
  },
  ...exclusions,
];
