// Rows that one side deleted, under each policy of deletes, in both orders of time; and key changes, which count as a
// delete of the old key and an insert of the new one. Data only.
import { type ConflictCase, doc, inOrder, primary, roles, secondary, short } from "../conflict_case.ts";

const policies = ["update_wins", "last_update_wins", "delete_wins"] as const;
const update = (v: string) => `UPDATE t SET v = '${v}' WHERE id = 1`;
const remove = "DELETE FROM t WHERE id = 1";

const matrix = policies.flatMap((deletes) =>
  roles.flatMap((later): ConflictCase[] => {
    // Does the update win, if it was written by that side?
    const lives = (updater: string) =>
      deletes === "update_wins" || (deletes === "last_update_wins" && later === updater);
    return [
      {
        id: `update_deleted_${short(deletes)}_${later}_later`,
        policy: { deletes },
        setup: doc,
        split: inOrder(later, remove, update("s")),
        rows: { t: [...lives("secondary") ? ["(1,s)"] : [], "(2,old)"] },
        conflicts: [{
          ...{ kind: "update_deleted", key: { id: "1" }, winner: lives("secondary") ? "secondary" : "primary" },
          ...{ policy: deletes, primaryRow: null, secondaryRow: { id: "1", v: "s" } },
        }],
      },
      {
        id: `delete_origin_differs_${short(deletes)}_${later}_later`,
        policy: { deletes },
        setup: doc,
        split: inOrder(later, update("p"), remove),
        rows: { t: [...lives("primary") ? ["(1,p)"] : [], "(2,old)"] },
        conflicts: [{
          ...{ kind: "delete_origin_differs", key: { id: "1" }, winner: lives("primary") ? "primary" : "secondary" },
          ...{ policy: deletes, primaryRow: { id: "1", v: "p" }, secondaryRow: null },
        }],
      },
    ];
  })
);

const keyChanges: readonly ConflictCase[] = [
  {
    id: "key_change_here_update_there",
    setup: doc,
    split: [primary("UPDATE t SET id = 5 WHERE id = 1"), secondary(update("s"))],
    rows: { t: ["(1,s)", "(2,old)", "(5,old)"] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary", secondaryRow: { v: "s" } }],
  },
  {
    id: "update_here_key_change_there",
    setup: doc,
    split: [primary(update("p")), secondary("UPDATE t SET id = 5 WHERE id = 1")],
    rows: { t: ["(1,p)", "(2,old)", "(5,old)"] },
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "primary", primaryRow: { v: "p" } }],
  },
  {
    id: "update_here_key_change_there_delete_wins",
    policy: { deletes: "delete_wins" },
    setup: doc,
    split: [primary(update("p")), secondary("UPDATE t SET id = 5 WHERE id = 1")],
    rows: { t: ["(2,old)", "(5,old)"] },
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "secondary", primaryRow: { v: "p" } }],
  },
  {
    id: "key_change_here_delete_there",
    setup: doc,
    split: [primary("UPDATE t SET id = 5 WHERE id = 1"), secondary(remove)],
    rows: { t: ["(2,old)", "(5,old)"] },
    conflicts: [],
  },
  {
    id: "delete_here_key_change_there",
    setup: doc,
    split: [primary(remove), secondary("UPDATE t SET id = 5 WHERE id = 1")],
    rows: { t: ["(2,old)", "(5,old)"] },
    conflicts: [],
  },
  {
    id: "key_change_on_both_to_different_keys",
    setup: doc,
    split: [primary("UPDATE t SET id = 5 WHERE id = 1"), secondary("UPDATE t SET id = 6 WHERE id = 1")],
    rows: { t: ["(2,old)", "(5,old)", "(6,old)"] },
    conflicts: [],
  },
  ...roles.map((later): ConflictCase => ({
    id: `key_change_on_both_to_the_same_key_${later}_later`,
    setup: doc,
    split: inOrder(later, "UPDATE t SET id = 5, v = 'p' WHERE id = 1", "UPDATE t SET id = 5, v = 's' WHERE id = 1"),
    rows: { t: ["(2,old)", `(5,${later[0]})`] },
    conflicts: [{ kind: "insert_exists", key: { id: "5" }, winner: later, primaryRow: { v: "p" } }],
  })),
  ...roles.map((later): ConflictCase => ({
    id: `key_change_there_onto_an_insert_here_${later}_later`,
    setup: doc,
    split: inOrder(later, "INSERT INTO t VALUES (5, 'p')", "UPDATE t SET id = 5, v = 's' WHERE id = 1"),
    rows: { t: ["(2,old)", `(5,${later[0]})`] },
    conflicts: [{ kind: "insert_exists", key: { id: "5" }, winner: later, primaryRow: { v: "p" } }],
  })),
  ...roles.map((later): ConflictCase => ({
    id: `key_change_here_onto_an_insert_there_${later}_later`,
    setup: doc,
    split: inOrder(later, "UPDATE t SET id = 5, v = 'p' WHERE id = 1", "INSERT INTO t VALUES (5, 's')"),
    rows: { t: ["(2,old)", `(5,${later[0]})`] },
    conflicts: [{ kind: "insert_exists", key: { id: "5" }, winner: later, secondaryRow: { v: "s" } }],
  })),
  {
    id: "keys_swapped_there",
    setup: "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two');",
    split: [
      primary("INSERT INTO t VALUES (3, 'p')"),
      secondary(`BEGIN; UPDATE t SET id = 0 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2;
        UPDATE t SET id = 2 WHERE id = 0; COMMIT`),
    ],
    rows: { t: ["(1,two)", "(2,one)", "(3,p)"] },
    conflicts: [],
  },
];

export const deleteCases: readonly ConflictCase[] = [
  ...matrix,
  {
    id: "delete_delete",
    setup: doc,
    split: [primary(remove), secondary(remove)],
    rows: { t: ["(2,old)"] },
    conflicts: [],
  },
  {
    id: "delete_here_delete_and_insert_there",
    setup: doc,
    split: [primary(remove), secondary(remove), secondary("INSERT INTO t VALUES (1, 's')")],
    rows: { t: ["(1,s)", "(2,old)"] },
    conflicts: [],
  },
  {
    id: "delete_and_insert_here_delete_there",
    setup: doc,
    split: [primary(remove), primary("INSERT INTO t VALUES (1, 'p')"), secondary(remove)],
    rows: { t: ["(1,p)", "(2,old)"] },
    // The row that stands here is not the one that was deleted there; a delete of an unseen version it is all the same.
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "primary", primaryRow: { v: "p" } }],
  },
  {
    id: "delete_here_update_then_delete_there",
    setup: doc,
    split: [primary(remove), secondary(update("s")), secondary(remove)],
    rows: { t: ["(2,old)"] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary" }],
  },
  {
    id: "delete_here_many_updates_there",
    setup: doc,
    split: [secondary(update("s1")), primary(remove), secondary(update("s2")), secondary(update("s3"))],
    rows: { t: ["(1,s3)", "(2,old)"] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary", several: true }],
  },
  ...keyChanges,
];
