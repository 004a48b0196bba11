// Rows whose columns were changed on both sides, under merge_columns; and rows that the table refuses: CHECK constraints.
// Data only.
import { type ConflictCase, type ExpectedConflict, inOrder, primary, roles, secondary } from "../conflict_case.ts";

const policy = { policy: "merge_columns" } as const;
const four = "CREATE TABLE t (id int PRIMARY KEY, a text, b text, c text); INSERT INTO t VALUES (1, 'a', 'b', 'c');";
const merged: ExpectedConflict = {
  ...{ kind: "update_origin_differs", key: { id: "1" }, winner: "both", policy: "merge_columns" },
};

const columnCases: readonly ConflictCase[] = [
  {
    id: "columns_disjoint",
    policy,
    setup: four,
    split: [primary("UPDATE t SET a = 'p'"), secondary("UPDATE t SET b = 's'")],
    rows: { t: ["(1,p,s,c)"] },
    conflicts: [{ ...merged, primaryRow: { a: "p", b: "b" }, secondaryRow: { a: "a", b: "s" } }],
  },
  {
    id: "columns_disjoint_over_several_edits",
    policy,
    setup: four,
    split: [
      primary("UPDATE t SET a = 'p1'"),
      secondary("UPDATE t SET b = 's1'"),
      secondary("UPDATE t SET c = 's1'"),
      primary("UPDATE t SET a = 'p2'"),
      secondary("UPDATE t SET b = 's2'"),
      primary("UPDATE t SET a = 'p3'"),
    ],
    rows: { t: ["(1,p3,s2,s1)"] },
    conflicts: [{ ...merged, several: true }],
  },
  ...roles.map((later): ConflictCase => ({
    id: `columns_one_in_common_${later}_later`,
    policy,
    setup: four,
    split: inOrder(later, "UPDATE t SET a = 'p', b = 'p'", "UPDATE t SET b = 's', c = 's'"),
    rows: { t: [`(1,p,${later[0]},s)`] },
    conflicts: [{ ...merged, primaryRow: { a: "p", b: "p" }, secondaryRow: { b: "s", c: "s" } }],
  })),
  ...roles.map((later): ConflictCase => ({
    id: `columns_the_same_only_${later}_later`,
    policy,
    setup: four,
    split: inOrder(later, "UPDATE t SET a = 'p'", "UPDATE t SET a = 's'"),
    rows: { t: [`(1,${later[0]},b,c)`] },
    conflicts: [{ ...merged, winner: later, primaryRow: { a: "p" }, secondaryRow: { a: "s" } }],
  })),
  {
    id: "columns_set_to_null_and_back",
    policy,
    setup: four,
    split: [
      primary("UPDATE t SET a = NULL"),
      secondary("UPDATE t SET b = NULL"),
      secondary("UPDATE t SET b = 's'"),
    ],
    rows: { t: ["(1,,s,c)"] },
    conflicts: [{ ...merged, several: true }],
  },
  {
    id: "columns_key_changed_there",
    policy,
    setup: four,
    split: [primary("UPDATE t SET a = 'p'"), secondary("UPDATE t SET id = 5")],
    rows: { t: ["(1,p,b,c)", "(5,a,b,c)"] },
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "primary" }],
  },
  {
    id: "columns_deleted_here",
    policy,
    setup: four,
    split: [primary("DELETE FROM t"), secondary("UPDATE t SET b = 's'")],
    rows: { t: ["(1,a,s,c)"] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary" }],
  },
  {
    id: "columns_deleted_there",
    policy,
    setup: four,
    split: [secondary("DELETE FROM t"), primary("UPDATE t SET b = 'p'")],
    rows: { t: ["(1,a,p,c)"] },
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "primary" }],
  },
  {
    id: "columns_deleted_here_after_both_updated",
    policy,
    setup: four,
    split: [primary("UPDATE t SET a = 'p'"), secondary("UPDATE t SET b = 's'"), primary("DELETE FROM t")],
    rows: { t: ["(1,a,s,c)"] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary" }],
  },
  {
    id: "columns_generated",
    policy,
    setup: `CREATE TABLE t (id int PRIMARY KEY, a int, b int, sum int GENERATED ALWAYS AS (a + b) STORED);
      INSERT INTO t VALUES (1, 1, 1);`,
    split: [primary("UPDATE t SET a = 10"), secondary("UPDATE t SET b = 20")],
    rows: { t: ["(1,10,20,30)"] },
    conflicts: [merged],
  },
];

const range =
  "CREATE TABLE t (id int PRIMARY KEY, lo int, hi int, CHECK (lo <= hi)); INSERT INTO t VALUES (1, 10, 20);";

const checkCases: readonly ConflictCase[] = [
  ...roles.map((later): ConflictCase => ({
    id: `check_over_two_columns_${later}_later`,
    policy,
    setup: range,
    split: inOrder(later, "UPDATE t SET lo = 18", "UPDATE t SET hi = 15"),
    rows: { t: [later === "primary" ? "(1,18,20)" : "(1,10,15)"] },
    conflicts: [{
      ...{ kind: "update_origin_differs", key: { id: "1" }, winner: later },
      ...{ primaryRow: { lo: "18", hi: "20" }, secondaryRow: { lo: "10", hi: "15" } },
    }],
  })),
  {
    id: "check_on_one_side_only",
    setup: "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old');",
    split: [
      primary("ALTER TABLE t ADD CHECK (v <> 'bad')"),
      secondary("INSERT INTO t VALUES (2, 'bad'), (3, 'good')"),
      secondary("UPDATE t SET v = 'bad' WHERE id = 1"),
      secondary("INSERT INTO t VALUES (4, 'good')"),
    ],
    rows: { t: ["(1,old)", "(3,good)", "(4,good)"] },
    conflicts: ["1", "2"].map((id) => ({
      ...{ kind: "cannot_apply", key: { id }, winner: "primary" as const, quarantined: true },
      ...{ secondaryRow: { id, v: "bad" } },
    })),
  },
];

export const columnAndCheckCases: readonly ConflictCase[] = [...columnCases, ...checkCases];
