// pgbench's own tables, data and TPC-B transaction, as a load that knows what was acknowledged to it.
// Each client writes a tag of its own into pgbench_history.filler, so that a test can prove that no acknowledged
// transaction is missing and none is there twice. Never retries a transaction: each tag is sent once.
import { setTimeout as pause } from "node:timers/promises";
import { errorCode, isUnreachable, type Sql } from "../../agent/postgres/connect.ts";
import type { Transaction } from "../../agent/postgres/locks.ts";
import { type ClientTarget, Follower, ReadOnlyServer } from "./follower.ts";
import { TimedOut } from "./wait.ts";

export const accountsPerBranch = 1000;
export const tellersPerBranch = 10;

/** pgbench -i: the same tables, with fewer accounts to a branch. */
export async function makeTpcb(sql: Sql, { branches = 1 } = {}): Promise<void> {
  await sql.unsafe(`
    CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int, filler char(88)) WITH (fillfactor = 100);
    CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84)) WITH (fillfactor = 100);
    CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84)) WITH (fillfactor = 100);
    CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    INSERT INTO pgbench_branches (bid, bbalance) SELECT b, 0 FROM generate_series(1, ${branches}) b;
    INSERT INTO pgbench_tellers (tid, bid, tbalance)
      SELECT t, (t - 1) / ${tellersPerBranch} + 1, 0 FROM generate_series(1, ${branches * tellersPerBranch}) t;
    INSERT INTO pgbench_accounts (aid, bid, abalance, filler)
      SELECT a, (a - 1) / ${accountsPerBranch} + 1, 0, '' FROM generate_series(1, ${branches * accountsPerBranch}) a;
    ALTER TABLE pgbench_branches ADD PRIMARY KEY (bid);
    ALTER TABLE pgbench_tellers ADD PRIMARY KEY (tid);
    ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid);
  `).simple();
}

export interface TpcbOptions {
  clients?: number;
  branches?: number;
  /** Distinguishes the tags of several loads; at most 8 characters. */
  name?: string;
  /** A pause of each client after each transaction; 0 = as fast as it goes. */
  thinkMs?: number;
  /** Draws accounts from here up to below `toAccount`, and tellers likewise, so that two loads need not overlap. */
  share?: { index: number; of: number };
  /** Told of each acknowledged transaction, as it is acknowledged, and of the server that it was done on. */
  onAcknowledged?: (host: ClientTarget["hosts"][number]) => void;
}

/** What one TPC-B transaction is about. */
export interface TpcbDraw {
  aid: number;
  tid: number;
  bid: number;
  delta: number;
  tag: string;
}

/** The statements of one TPC-B transaction, within one that the caller has begun and will commit. */
export async function tpcbStatements(tx: Sql | Transaction, { aid, tid, bid, delta, tag }: TpcbDraw): Promise<void> {
  await tx`UPDATE pgbench_accounts SET abalance = abalance + ${delta} WHERE aid = ${aid}`;
  await tx`SELECT abalance FROM pgbench_accounts WHERE aid = ${aid}`;
  await tx`UPDATE pgbench_tellers SET tbalance = tbalance + ${delta} WHERE tid = ${tid}`;
  await tx`UPDATE pgbench_branches SET bbalance = bbalance + ${delta} WHERE bid = ${bid}`;
  await tx`INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler)
    VALUES (${tid}, ${bid}, ${aid}, ${delta}, CURRENT_TIMESTAMP, ${tag})`;
}

/** What the clients of a load were told. */
export interface TpcbReport {
  /** Tags of transactions whose COMMIT was acknowledged. */
  acknowledged: string[];
  /** Tags whose COMMIT was sent, but whose connection was lost before the answer: done or not. */
  unknown: string[];
  /** Lost or refused connections. */
  reconnections: number;
  /** Refusals with SQLSTATE 25006 (the server is read-only). */
  readOnlyRefusals: number;
  /** Any other error; a client that follows the pair sees none. */
  errors: string[];
  seconds: number;
  tps: number;
  /** The longest time, over all clients together, without any acknowledgement. */
  longestGapMs: number;
}

export interface TpcbLoad {
  readonly acknowledged: number;
  /** When the last transaction was acknowledged (performance.now()). */
  readonly lastAcknowledgedAt: number;
  /** Lets the transactions under way end, and reports. */
  stop(): Promise<TpcbReport>;
}

/** Starts the load; it goes on until it is stopped. */
export function startTpcb(target: ClientTarget, options: TpcbOptions = {}): TpcbLoad {
  const { clients = 4, branches = 1, name = "t", thinkMs = 0, share = { index: 0, of: 1 } } = options;
  const started = performance.now();
  let going = true;
  let lastAcknowledgedAt = started;
  const report: TpcbReport = {
    acknowledged: [],
    unknown: [],
    reconnections: 0,
    readOnlyRefusals: 0,
    errors: [],
    seconds: 0,
    tps: 0,
    longestGapMs: 0,
  };
  // One of `count` numbers from 1, of this load's share.
  const draw = (count: number) => {
    const width = Math.floor(count / share.of);
    return share.index * width + 1 + Math.floor(Math.random() * width);
  };

  async function client(number: number): Promise<void> {
    const follower = new Follower(target, `tpcb ${name}`);
    for (let turn = 1; going; turn++) {
      const tag = `${name}.${number}.${turn}`;
      const aid = draw(branches * accountsPerBranch);
      const tid = draw(branches * tellersPerBranch);
      const bid = share.of > 1 ? share.index + 1 : 1 + Math.floor(Math.random() * branches);
      const delta = Math.floor(Math.random() * 10_001) - 5000;
      let committing = false;
      try {
        await follower.run((sql) =>
          sql.begin(async (tx) => {
            await tpcbStatements(tx, { aid, tid, bid, delta, tag });
            committing = true;
          })
        );
        const now = performance.now();
        report.longestGapMs = Math.max(report.longestGapMs, now - lastAcknowledgedAt);
        lastAcknowledgedAt = now;
        report.acknowledged.push(tag);
        options.onAcknowledged?.(follower.host!);
      } catch (error) {
        if (isUnreachable(error) || error instanceof TimedOut || error instanceof ReadOnlyServer) {
          report.reconnections++;
        } else if (errorCode(error) === "25006") report.readOnlyRefusals++;
        else report.errors.push(`${errorCode(error)}: ${error instanceof Error ? error.message : error}`);
        if (committing) report.unknown.push(tag);
        await pause(20);
      }
      if (thinkMs) await pause(thinkMs);
    }
    await follower.close();
  }

  const all = Array.from({ length: clients }, (_, index) => client(index + 1));
  return {
    get acknowledged() {
      return report.acknowledged.length;
    },
    get lastAcknowledgedAt() {
      return lastAcknowledgedAt;
    },
    async stop() {
      if (going) {
        going = false;
        await Promise.all(all);
        report.seconds = (performance.now() - started) / 1000;
        report.tps = report.acknowledged.length / report.seconds;
      }
      return report;
    },
  };
}

/** Tags that must be in the history but are not, and those that are there twice or must not be there at all. */
export async function checkHistory(sql: Sql, reports: TpcbReport[]) {
  const rows = await sql<{ tag: string; count: number }[]>`
    SELECT rtrim(filler) AS tag, count(*)::int AS count FROM pgbench_history WHERE filler IS NOT NULL GROUP BY 1`;
  const found = new Map(rows.map((row) => [row.tag, row.count]));
  const acknowledged = reports.flatMap((report) => report.acknowledged);
  const expected = new Set([...acknowledged, ...reports.flatMap((report) => report.unknown)]);
  return {
    missing: acknowledged.filter((tag) => !found.has(tag)),
    doubled: rows.filter((row) => row.count > 1).map((row) => row.tag),
    invented: rows.filter((row) => !expected.has(row.tag)).map((row) => row.tag),
  };
}

/** The four sums of TPC-B, which are equal on any state of the database that holds whole transactions. */
export async function tpcbSums(sql: Sql) {
  const [sums] = await sql<{ accounts: string; tellers: string; branches: string; history: string }[]>`
    SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS accounts, (SELECT sum(tbalance) FROM pgbench_tellers) AS tellers,
      (SELECT sum(bbalance) FROM pgbench_branches) AS branches, (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS history`;
  return sums;
}
