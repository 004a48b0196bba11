// The work that every system is measured with: each makes a backlog at the source. Sizes at scale 1.
import type { Sql } from "../agent/postgres/connect.ts";

export const schema = `
  CREATE TABLE account (id bigint PRIMARY KEY, name text, owner text, data bytea);
  CREATE TABLE large (id bigint PRIMARY KEY, name text, owner text, data bytea);
  CREATE TABLE tiny (id bigint PRIMARY KEY, v text, t timestamptz);
  CREATE TABLE marker (id int PRIMARY KEY, what text);`;

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

const insertRows = (table: string, first: number, last: number) =>
  `INSERT INTO ${table} SELECT i, 'account name ' || i, 'owner-' || i % 1000,
     decode(md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) || md5((i + 3)::text), 'hex')
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
        (first, last) => `UPDATE account SET name = 'renamed ' || id WHERE id BETWEEN ${first} AND ${last}`,
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
    name: "w5",
    what: "50,000 transactions of one row",
    changes: 50_000,
    transactions: 50_000,
    make: async (source, changes) => {
      await source.unsafe(`DO $$ BEGIN
        SET synchronous_commit = off;
        FOR i IN 1..${changes} LOOP
          INSERT INTO tiny VALUES (i, 'a tiny row', clock_timestamp());
          COMMIT;
        END LOOP;
        SET synchronous_commit = on;
      END $$`).simple();
    },
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
