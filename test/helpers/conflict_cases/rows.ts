// Rows that both sides wrote: update/update and insert/insert, under each policy of rows, in both orders of time.
// Data only.
import { type ConflictCase, doc, inOrder, primary, roles, secondary, short, winnerBy } from "../conflict_case.ts";

const policies = ["last_update_wins", "primary_wins", "secondary_wins"] as const;
const byWinner = { primary: "p", secondary: "s" };

const updates = policies.flatMap((policy) =>
  roles.map((later): ConflictCase => {
    const winner = winnerBy(policy, later);
    return {
      id: `update_update_${short(policy)}_${later}_later`,
      policy: { policy },
      setup: doc,
      split: inOrder(later, "UPDATE t SET v = 'p' WHERE id = 1", "UPDATE t SET v = 's' WHERE id = 1"),
      rows: { t: [`(1,${byWinner[winner]})`, "(2,old)"] },
      conflicts: [{
        ...{ kind: "update_origin_differs", key: { id: "1" }, winner, policy },
        ...{ primaryRow: { id: "1", v: "p" }, secondaryRow: { id: "1", v: "s" } },
      }],
    };
  })
);

const inserts = ([...policies, "merge_columns"] as const).flatMap((policy) =>
  roles.map((later): ConflictCase => {
    const winner = winnerBy(policy, later);
    return {
      id: `insert_insert_${short(policy)}_${later}_later`,
      policy: { policy },
      setup: doc,
      split: inOrder(later, "INSERT INTO t VALUES (9, 'p')", "INSERT INTO t VALUES (9, 's')"),
      rows: { t: ["(1,old)", "(2,old)", `(9,${byWinner[winner]})`] },
      conflicts: [{
        ...{ kind: "insert_exists", key: { id: "9" }, winner, policy },
        ...{ primaryRow: { id: "9", v: "p" }, secondaryRow: { id: "9", v: "s" } },
      }],
    };
  })
);

export const rowCases: readonly ConflictCase[] = [
  ...updates,
  ...inserts,
  {
    id: "update_update_many_times",
    setup: doc,
    split: [
      primary("UPDATE t SET v = 'p1' WHERE id = 1"),
      secondary("UPDATE t SET v = 's1' WHERE id = 1"),
      primary("UPDATE t SET v = 'p2' WHERE id = 1"),
      secondary("UPDATE t SET v = 's2' WHERE id = 1"),
      primary("UPDATE t SET v = 'p3' WHERE id = 1"),
    ],
    rows: { t: ["(1,p3)", "(2,old)"] },
    conflicts: [
      { kind: "update_origin_differs", key: { id: "1" }, winner: "primary", primaryRow: { v: "p3" }, several: true },
    ],
  },
  {
    id: "update_update_many_times_secondary_last",
    setup: doc,
    split: [
      secondary("UPDATE t SET v = 's1' WHERE id = 1"),
      primary("UPDATE t SET v = 'p1' WHERE id = 1"),
      primary("UPDATE t SET v = 'p2' WHERE id = 1"),
      secondary("UPDATE t SET v = 's2' WHERE id = 1"),
    ],
    rows: { t: ["(1,s2)", "(2,old)"] },
    conflicts: [
      { kind: "update_origin_differs", winner: "primary", primaryRow: { v: "p2" }, secondaryRow: { v: "s1" } },
      { kind: "update_origin_differs", winner: "secondary", primaryRow: { v: "p2" }, secondaryRow: { v: "s2" } },
    ],
  },
  {
    id: "insert_insert_then_deleted_there",
    setup: doc,
    split: [
      primary("INSERT INTO t VALUES (9, 'p')"),
      secondary("INSERT INTO t VALUES (9, 's')"),
      secondary("DELETE FROM t WHERE id = 9"),
    ],
    // The insert was the later one; the delete saw it, but not the primary's row, which it overruled.
    rows: { t: ["(1,old)", "(2,old)"] },
    conflicts: [{ kind: "insert_exists", key: { id: "9" }, winner: "secondary", primaryRow: { v: "p" } }],
  },
  {
    id: "insert_here_deleted_insert_there",
    setup: doc,
    split: [
      primary("INSERT INTO t VALUES (9, 'p')"),
      primary("DELETE FROM t WHERE id = 9"),
      secondary("INSERT INTO t VALUES (9, 's')"),
    ],
    rows: { t: ["(1,old)", "(2,old)", "(9,s)"] },
    conflicts: [],
  },
  {
    id: "nothing_overlaps",
    setup: doc,
    split: [
      primary("UPDATE t SET v = 'p' WHERE id = 1; INSERT INTO t VALUES (3, 'p')"),
      secondary("UPDATE t SET v = 's' WHERE id = 2; INSERT INTO t VALUES (4, 's')"),
    ],
    rows: { t: ["(1,p)", "(2,s)", "(3,p)", "(4,s)"] },
    conflicts: [],
  },
];
