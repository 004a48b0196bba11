// Rows that are hard to carry or to name: large values that the change left alone, quoted names, keys of every sort,
// partitions. Data only.
import { type ConflictCase, inOrder, primary, roles, secondary } from "../conflict_case.ts";

const size = 100_000;
const big = `CREATE TABLE t (id int PRIMARY KEY, n int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
  INSERT INTO t SELECT n, 0, repeat(n::text, ${size}) FROM generate_series(1, 3) n;`;
const bigRows = "SELECT concat_ws(' ', id, n, length(body), left(body, 1)) FROM t WHERE id < 3";
const row = (id: number, n: number, letter: string | number) => `${id} ${n} ${size} ${letter}`;

const largeValues: readonly ConflictCase[] = [
  {
    id: "toast_deleted_here_updated_there",
    setup: big,
    split: [primary("DELETE FROM t WHERE id = 1"), secondary("UPDATE t SET n = 5 WHERE id = 1")],
    rows: { [bigRows]: [row(1, 5, 1), row(2, 0, 2)] },
    conflicts: [{
      ...{ kind: "update_deleted", key: { id: "1" }, winner: "secondary", primaryRow: null },
      ...{ secondaryRow: { n: "5", body: "1".repeat(size) } },
    }],
  },
  {
    id: "toast_updated_here_deleted_there",
    setup: big,
    split: [primary("UPDATE t SET n = 5 WHERE id = 1"), secondary("DELETE FROM t WHERE id = 1")],
    rows: { [bigRows]: [row(1, 5, 1), row(2, 0, 2)] },
    conflicts: [{
      ...{ kind: "delete_origin_differs", key: { id: "1" }, winner: "primary" },
      ...{ primaryRow: { n: "5", body: "1".repeat(size) }, secondaryRow: null },
    }],
  },
  {
    id: "toast_truncated_here_updated_there",
    setup: big,
    split: [primary("TRUNCATE t"), secondary("UPDATE t SET n = 5 WHERE id = 1")],
    rows: { [bigRows]: [row(1, 5, 1)] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary" }],
  },
  {
    id: "toast_key_changed_here_updated_there",
    setup: big,
    split: [primary("UPDATE t SET id = 0 WHERE id = 1"), secondary("UPDATE t SET n = 5 WHERE id = 1")],
    rows: { [bigRows]: [row(0, 0, 1), row(1, 5, 1), row(2, 0, 2)] },
    conflicts: [{ kind: "update_deleted", key: { id: "1" }, winner: "secondary" }],
  },
  {
    id: "toast_updated_here_key_changed_there",
    setup: big,
    split: [primary("UPDATE t SET n = 5 WHERE id = 1"), secondary("UPDATE t SET id = 0 WHERE id = 1")],
    rows: { [bigRows]: [row(0, 0, 1), row(1, 5, 1), row(2, 0, 2)] },
    conflicts: [{ kind: "delete_origin_differs", key: { id: "1" }, winner: "primary" }],
  },
  ...roles.map((later): ConflictCase => ({
    id: `toast_changed_here_other_column_there_${later}_later`,
    setup: big,
    split: inOrder(
      later,
      `UPDATE t SET body = repeat('p', ${size}) WHERE id = 1`,
      "UPDATE t SET n = 5 WHERE id = 1",
    ),
    // A version wins whole: with it the large value that it left alone.
    rows: { [bigRows]: [later === "primary" ? row(1, 0, "p") : row(1, 5, 1), row(2, 0, 2)] },
    conflicts: [{
      ...{ kind: "update_origin_differs", key: { id: "1" }, winner: later },
      ...{ primaryRow: { n: "0", body: "p".repeat(size) }, secondaryRow: { n: "5", body: "1".repeat(size) } },
    }],
  })),
  {
    id: "toast_changed_here_other_column_there_merge_columns",
    policy: { policy: "merge_columns" },
    setup: big,
    split: [
      primary(`UPDATE t SET body = repeat('p', ${size}) WHERE id = 1`),
      secondary("UPDATE t SET n = 5 WHERE id = 1"),
    ],
    rows: { [bigRows]: [row(1, 5, "p"), row(2, 0, 2)] },
    conflicts: [{ kind: "update_origin_differs", key: { id: "1" }, winner: "both" }],
  },
  {
    id: "toast_without_key",
    setup: `CREATE TABLE t (id int, n int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
      INSERT INTO t SELECT n, 0, repeat(n::text, ${size}) FROM generate_series(1, 2) n;`,
    split: [primary("DELETE FROM t WHERE id = 1"), secondary("UPDATE t SET n = 5 WHERE id = 1")],
    rows: { [bigRows]: [row(1, 5, 1), row(2, 0, 2)] },
    conflicts: [{ kind: "update_missing", winner: "both" }],
  },
];

const quoted = `"Quoted ""T"" {,}"`;

const names: readonly ConflictCase[] = [
  {
    id: "quoted_names",
    setup: `CREATE TABLE ${quoted} ("Key ""k""" text, "a.b" int, "select" text, PRIMARY KEY ("select", "Key ""k"""));
      INSERT INTO ${quoted} VALUES ('k', 0, '''');`,
    split: [primary(`UPDATE ${quoted} SET "a.b" = 1`), secondary(`UPDATE ${quoted} SET "a.b" = 2`)],
    rows: { [`SELECT "a.b"::text FROM ${quoted}`]: ["2"] },
    conflicts: [{
      ...{ table: 'Quoted "T" {,}', kind: "update_origin_differs", winner: "secondary" },
      ...{ key: { 'Key "k"': "k", select: "'" }, primaryRow: { "a.b": "1" } },
    }],
  },
  {
    id: "composite_key",
    setup:
      "CREATE TABLE t (v text, b int, a text, PRIMARY KEY (a, b)); INSERT INTO t VALUES ('old', 1, 'x'), ('old', 2, 'x');",
    split: [
      primary("UPDATE t SET v = 'p'"),
      secondary("UPDATE t SET v = 's' WHERE b = 1; DELETE FROM t WHERE b = 2"),
    ],
    rows: { t: ["(p,2,x)", "(s,1,x)"] },
    conflicts: [
      { kind: "update_origin_differs", key: { a: "x", b: "1" }, winner: "secondary" },
      { kind: "delete_origin_differs", key: { a: "x", b: "2" }, winner: "primary" },
    ],
  },
  {
    id: "text_keys",
    setup:
      "CREATE TABLE t (id text PRIMARY KEY, v text); INSERT INTO t VALUES ('ü', 'old'), ('日本', 'old'), ('', 'old');",
    split: [
      primary("UPDATE t SET v = 'p'"),
      secondary("DELETE FROM t WHERE id = '日本'; UPDATE t SET v = 's' WHERE id <> '日本'"),
    ],
    rows: { t: ['("",s)', "(ü,s)", "(日本,p)"] },
    conflicts: [
      { kind: "update_origin_differs", key: { id: "ü" }, winner: "secondary" },
      { kind: "update_origin_differs", key: { id: "" }, winner: "secondary" },
      { kind: "delete_origin_differs", key: { id: "日本" }, winner: "primary" },
    ],
  },
  {
    id: "enum_and_domain_keys",
    setup: `CREATE TYPE mood AS ENUM ('sad', 'very happy'); CREATE DOMAIN code AS text CHECK (VALUE <> '');
      CREATE TABLE t (m mood, c code, v text, PRIMARY KEY (m, c));
      INSERT INTO t VALUES ('sad', 'x', 'old'), ('very happy', 'x', 'old'), ('sad', 'y', 'old');`,
    split: [
      primary("DELETE FROM t WHERE c = 'x'; UPDATE t SET v = 'p' WHERE c = 'y'"),
      secondary("UPDATE t SET v = 's' WHERE m = 'very happy' OR c = 'y'"),
    ],
    rows: { t: ["(sad,y,s)", '("very happy",x,s)'] },
    conflicts: [
      { kind: "update_deleted", key: { m: "very happy", c: "x" }, winner: "secondary" },
      { kind: "update_origin_differs", key: { m: "sad", c: "y" }, winner: "secondary" },
    ],
  },
  {
    id: "exotic_keys",
    setup: `CREATE TABLE t (d date, n numeric, u uuid, b bytea, v text, PRIMARY KEY (d, n, u, b));
      INSERT INTO t VALUES ('2024-02-29', 1.50, '11111111-2222-3333-4444-555555555555', '\\x00ff', 'old');`,
    split: [primary("DELETE FROM t"), secondary("UPDATE t SET v = 's'")],
    rows: { "SELECT concat_ws(' ', d, n, b, v) FROM t": ["2024-02-29 1.50 \\x00ff s"] },
    conflicts: [{ kind: "update_deleted", key: { d: "2024-02-29", n: "1.50" }, winner: "secondary" }],
  },
  {
    id: "partitioned",
    policy: { policy: "primary_wins" },
    setup: `CREATE TABLE t (region text, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
      CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu'); CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('us');
      INSERT INTO t VALUES ('eu', 1, 'old'), ('eu', 2, 'old'), ('us', 3, 'old');`,
    split: [
      primary("UPDATE t SET v = 'p'"),
      secondary(
        "UPDATE t SET v = 's' WHERE id = 1; UPDATE t SET region = 'us' WHERE id = 2; DELETE FROM t WHERE id = 3",
      ),
    ],
    rows: { t: ["(eu,1,p)", "(eu,2,p)", "(us,2,old)", "(us,3,p)"] },
    conflicts: [
      { table: "t_eu", kind: "update_origin_differs", key: { id: "1" }, winner: "primary", policy: "primary_wins" },
      { table: "t_eu", kind: "delete_origin_differs", key: { id: "2" }, winner: "primary" },
      { table: "t_us", kind: "delete_origin_differs", key: { id: "3" }, winner: "primary" },
    ],
  },
];

export const valueAndNameCases: readonly ConflictCase[] = [...largeValues, ...names];
