// Rows of different keys that cannot stand side by side: unique keys, one and several, of every form, and exclusion
// constraints, under each policy of unique. Data only.
import { type ConflictCase, inOrder, primary, roles, secondary, short, winnerBy } from "../conflict_case.ts";

const policies = ["last_update_wins", "primary_wins", "secondary_wins"] as const;
const unique = "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE); INSERT INTO t VALUES (1, 'a'), (2, 'b');";

const matrix = policies.flatMap((policy) =>
  roles.flatMap((later): ConflictCase[] => {
    const winner = winnerBy(policy, later);
    const won = winner === "secondary";
    return [
      {
        id: `unique_insert_insert_${short(policy)}_${later}_later`,
        policy: { unique: policy },
        setup: unique,
        split: inOrder(later, "INSERT INTO t VALUES (11, 'x')", "INSERT INTO t VALUES (12, 'x')"),
        rows: { t: ["(1,a)", "(2,b)", won ? "(12,x)" : "(11,x)"] },
        conflicts: [{
          ...{ kind: "insert_exists", key: { id: won ? "11" : "12" }, winner, policy, quarantined: true },
          ...{ primaryRow: { id: "11", code: "x" }, secondaryRow: { id: "12", code: "x" } },
        }],
      },
      {
        id: `unique_update_update_${short(policy)}_${later}_later`,
        policy: { unique: policy },
        setup: unique,
        split: inOrder(later, "UPDATE t SET code = 'x' WHERE id = 1", "UPDATE t SET code = 'x' WHERE id = 2"),
        rows: { t: won ? ["(2,x)"] : ["(1,x)", "(2,b)"] },
        conflicts: [{
          ...{ kind: "update_exists", key: { id: won ? "1" : "2" }, winner, policy, quarantined: true },
          ...{ primaryRow: { id: "1", code: "x" }, secondaryRow: { id: "2", code: "x" } },
        }],
      },
    ];
  })
);

const two = "CREATE TABLE t (id int PRIMARY KEY, a text UNIQUE, b text UNIQUE);";
const twoBlockers = [
  "INSERT INTO t VALUES (1, 'x', 'q'), (2, 'r', 'y')",
  "INSERT INTO t VALUES (3, 'x', 'y')",
] as const;

const swap = `BEGIN; UPDATE t SET code = '-' WHERE id = 1; UPDATE t SET code = 'a' WHERE id = 2;
  UPDATE t SET code = 'b' WHERE id = 1; COMMIT`;
const chain = `BEGIN; UPDATE t SET code = 'd' WHERE id = 3; UPDATE t SET code = 'c' WHERE id = 2;
  UPDATE t SET code = 'b' WHERE id = 1; COMMIT`;

const several: readonly ConflictCase[] = [
  {
    id: "unique_two_blockers_secondary_later",
    setup: two,
    split: inOrder("secondary", ...twoBlockers),
    rows: { t: ["(3,x,y)"] },
    conflicts: ["1", "2"].map((id) => ({
      ...{ kind: "multiple_unique_conflicts", key: { id }, winner: "secondary" as const, quarantined: true },
      ...{ primaryRow: { id }, secondaryRow: { id: "3" } },
    })),
  },
  {
    id: "unique_two_blockers_primary_later",
    setup: two,
    split: inOrder("primary", ...twoBlockers),
    rows: { t: ["(1,x,q)", "(2,r,y)"] },
    conflicts: [{
      ...{ kind: "multiple_unique_conflicts", key: { id: "3" }, winner: "primary" },
      ...{ quarantined: true, secondaryRow: { id: "3", a: "x", b: "y" } },
    }],
  },
  {
    id: "unique_swapped_there_through_another_value",
    setup: unique,
    split: [
      primary("INSERT INTO t VALUES (3, 'c')"),
      secondary(swap),
    ],
    rows: { t: ["(1,b)", "(2,a)", "(3,c)"] },
    conflicts: [],
  },
  {
    id: "unique_swapped_on_both_secondary_later",
    setup: unique,
    split: [primary(swap), secondary(swap)],
    rows: { t: ["(1,b)", "(2,a)"] },
    conflicts: [
      { kind: "update_origin_differs", key: { id: "1" }, winner: "secondary", several: true },
      { kind: "update_origin_differs", key: { id: "2" }, winner: "secondary", several: true },
    ],
  },
  {
    id: "unique_swap_there_against_an_update_here",
    policy: { policy: "primary_wins", unique: "primary_wins" },
    setup: "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b');",
    split: [
      primary("UPDATE t SET v = 'p' WHERE id = 1"),
      secondary(swap),
    ],
    rows: { t: ["(1,a,p)", "(2,b,)"] },
    conflicts: [
      { kind: "update_origin_differs", key: { id: "1" }, winner: "primary", several: true },
      { kind: "update_exists", key: { id: "2" }, winner: "primary", quarantined: true, secondaryRow: { code: "a" } },
    ],
  },
  {
    id: "unique_chain_there_secondary_later",
    setup: `${unique} INSERT INTO t VALUES (3, 'c');`,
    split: [
      primary("INSERT INTO t VALUES (9, 'd')"),
      secondary(chain),
    ],
    rows: { t: ["(1,b)", "(2,c)", "(3,d)"] },
    conflicts: [{
      ...{ kind: "update_exists", key: { id: "9" }, winner: "secondary", quarantined: true },
      ...{ primaryRow: { id: "9", code: "d" }, secondaryRow: { id: "3", code: "d" } },
    }],
  },
  {
    id: "unique_chain_there_primary_wins",
    policy: { unique: "primary_wins" },
    setup: `${unique} INSERT INTO t VALUES (3, 'c');`,
    split: [
      primary("INSERT INTO t VALUES (9, 'd')"),
      secondary(chain),
    ],
    rows: { t: ["(1,a)", "(2,b)", "(3,c)", "(9,d)"] },
    conflicts: ["3", "2", "1"].map((id) => ({
      ...{ kind: "update_exists", key: { id }, winner: "primary" as const, quarantined: true },
    })),
  },
  {
    id: "unique_value_freed_and_taken_there",
    setup: "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE, v text); INSERT INTO t VALUES (1, 'a', 'old');",
    split: [
      primary("UPDATE t SET v = 'p' WHERE id = 1"),
      secondary("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (2, 'a', 's')"),
    ],
    // The row that was updated lives, and so stands in the way of the one that took its place.
    rows: { t: ["(2,a,s)"] },
    conflicts: [
      { kind: "delete_origin_differs", key: { id: "1" }, winner: "primary" },
      { kind: "insert_exists", key: { id: "1" }, winner: "secondary", quarantined: true, primaryRow: { v: "p" } },
    ],
  },
];

export const uniqueCases: readonly ConflictCase[] = [...matrix, ...several];
