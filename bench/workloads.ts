// The work that every system is measured with: each makes a backlog at the source, by statements that run inside of the
// server. Sizes at scale 1. Must write the same rows whenever it runs, so that systems can be compared.
import type { Sql } from "../agent/postgres/connect.ts";

export interface Workload {
  readonly name: string;
  readonly what: string;
  readonly changes: number;
  readonly transactions: number;
  /** Measured once, not in every repetition. */
  readonly once?: boolean;
  /** Writes `changes` changes in so many transactions. */
  make(source: Sql, changes: number, transactions: number): Promise<void>;
}

const tables = `
  CREATE TABLE account (id bigint PRIMARY KEY, name text, owner text, secret bytea, updated_at timestamptz);
  CREATE TABLE large (LIKE account INCLUDING ALL);
  CREATE TABLE tiny (id bigint PRIMARY KEY, v text, t timestamptz);
  CREATE TABLE marker (id int PRIMARY KEY, what text);`;

/** Of pgbench at scale 1; its own scale is 20, as the least one that its clients do not all wait for each other. */
export const tpcb = { scale: 20, accounts: 100_000, tellers: 10 };

/** pgbench's tables with their data, the history with a key, and its transaction as a function. */
function tpcbTables(scale: number): string {
  const branches = Math.max(1, Math.round(tpcb.scale * scale));
  return `
  CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)) WITH (fillfactor = 100);
  CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)) WITH (fillfactor = 100);
  CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) WITH (fillfactor = 100);
  CREATE TABLE pgbench_history (id bigint PRIMARY KEY, tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
  CREATE SEQUENCE pgbench_history_id OWNED BY pgbench_history.id;
  ALTER TABLE pgbench_history ALTER COLUMN id SET DEFAULT nextval('pgbench_history_id');
  INSERT INTO pgbench_branches SELECT b, 0 FROM generate_series(1, ${branches}) b;
  INSERT INTO pgbench_tellers
    SELECT t, (t - 1) / ${tpcb.tellers} + 1, 0 FROM generate_series(1, ${branches * tpcb.tellers}) t;
  INSERT INTO pgbench_accounts
    SELECT a, (a - 1) / ${tpcb.accounts} + 1, 0, '' FROM generate_series(1, ${branches * tpcb.accounts}) a;
  CREATE FUNCTION bench_tpcb() RETURNS void LANGUAGE plpgsql AS $$
  DECLARE
    b int := 1 + floor(random() * ${branches});
    t int := 1 + floor(random() * ${branches * tpcb.tellers});
    a int := 1 + floor(random() * ${branches * tpcb.accounts});
    d int := floor(random() * 10001) - 5000;
  BEGIN
    UPDATE pgbench_accounts SET abalance = abalance + d WHERE aid = a;
    PERFORM abalance FROM pgbench_accounts WHERE aid = a;
    UPDATE pgbench_tellers SET tbalance = tbalance + d WHERE tid = t;
    UPDATE pgbench_branches SET bbalance = bbalance + d WHERE bid = b;
    INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (t, b, a, d, CURRENT_TIMESTAMP);
  END $$;`;
}

/** The tables of all workloads; those of pgbench only where they are asked for, as they take their time. */
export const schemaOf = (scale: number, withTpcb: boolean): string => tables + (withTpcb ? tpcbTables(scale) : "");

/** A time that is another for each row, and the same whenever the bench runs. */
const timeOf = (number: string) => `timestamptz '2026-01-01 00:00:00.123456+00' + ${number} * interval '1.5 s'`;

const insertRows = (table: string, first: number, last: number) =>
  `INSERT INTO ${table} SELECT i, 'account name ' || i, 'owner-' || i % 1000,
     decode(md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) || md5((i + 3)::text), 'hex'), ${timeOf("i")}
   FROM generate_series(${first}::bigint, ${last}::bigint) i`;

/** One statement, one transaction; `statement` gets the first and the last number of its share. */
async function inTransactions(
  source: Sql,
  changes: number,
  transactions: number,
  statement: (first: number, last: number) => string,
): Promise<void> {
  const step = changes / transactions;
  for (let n = 0; n < transactions; n++) {
    await source.unsafe(statement(Math.round(n * step) + 1, Math.round((n + 1) * step)));
  }
}

/** Small transactions, made in one go: their commits do not wait for the disk. `statement` may use `i`. */
async function inLoop(source: Sql, transactions: number, statement: string): Promise<void> {
  await source.unsafe(`DO $$ BEGIN
    SET synchronous_commit = off;
    PERFORM setseed(0.5);
    FOR i IN 1..${transactions} LOOP
      ${statement};
      COMMIT;
    END LOOP;
    SET synchronous_commit = on;
  END $$`).simple();
}

/** In the order in which they must run: the updates and deletes find the rows of the inserts. */
export const workloads: readonly Workload[] = [
  {
    name: "w1",
    what: "1,000,000 inserts in 10 transactions",
    changes: 1_000_000,
    transactions: 10,
    make: (source, changes, transactions) =>
      inTransactions(source, changes, transactions, (first, last) => insertRows("account", first, last)),
  },
  {
    name: "w2",
    what: "300,000 updates in 30 transactions",
    changes: 300_000,
    transactions: 30,
    make: (source, changes, transactions) =>
      inTransactions(
        source,
        changes,
        transactions,
        (first, last) =>
          `UPDATE account SET name = 'renamed ' || id, updated_at = ${
            timeOf("2 * id")
          } WHERE id BETWEEN ${first} AND ${last}`,
      ),
  },
  {
    name: "w3",
    what: "300,000 deletes in 30 transactions",
    changes: 300_000,
    transactions: 30,
    // Rows that w2 did not touch.
    make: (source, changes, transactions) =>
      inTransactions(
        source,
        changes,
        transactions,
        (first, last) => `DELETE FROM account WHERE id BETWEEN ${changes + first} AND ${changes + last}`,
      ),
  },
  {
    name: "w4",
    what: "100,000 TPC-B transactions (pgbench, scale 20)",
    changes: 400_000,
    transactions: 100_000,
    make: (source, _, transactions) => inLoop(source, transactions, "PERFORM bench_tpcb()"),
  },
  {
    name: "w5",
    what: "50,000 transactions of one row",
    changes: 50_000,
    transactions: 50_000,
    make: (source, _, transactions) =>
      inLoop(source, transactions, "INSERT INTO tiny VALUES (i, 'a tiny row', clock_timestamp())"),
  },
  {
    name: "large",
    what: "5,000,000 inserts in one transaction",
    changes: 5_000_000,
    transactions: 1,
    once: true,
    make: (source, changes, transactions) =>
      inTransactions(source, changes, transactions, (first, last) => insertRows("large", first, last)),
  },
];
