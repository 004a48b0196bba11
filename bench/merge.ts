// scripts/bench merge: how long a merge of a backlog takes with and without conflicts, and beside it the same backlog taken
// in by a primary that wrote nothing. One pair for each measurement; fails where both sides are not equal afterwards.
import process from "node:process";
import { parseArgs } from "node:util";
import type { Sql } from "../agent/postgres/connect.ts";
import { waitEqual } from "../test/helpers/equality.ts";
import { makePair } from "../test/helpers/pair.ts";
import { Scope } from "../test/helpers/scope.ts";
import { waitFor } from "../test/helpers/wait.ts";
import { median } from "./results.ts";
import { serverSettings } from "./system.ts";
import { forgetPeak, peakMemoryMb } from "./usage.ts";
import { runningProcesses } from "../test/helpers/processes.ts";

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: {
    rows: { type: "string", default: "1000000" },
    reps: { type: "string", default: "3" },
    versions: { type: "string", default: "15,18" },
    only: { type: "string", default: "follow,split,conflicts" },
  },
});
const rows = Number(values.rows);
/** Of the backlog, so much updates rows that were there before the split; the rest are inserts. */
const seeded = Math.round(rows * 0.3);
const transactions = 100;

type Kind = "follow" | "split" | "conflicts";
const what: Record<Kind, string> = {
  follow: "the primary was down and wrote nothing",
  split: "both wrote; no row on both sides",
  conflicts: "both wrote; 1 % of the rows on both sides",
};

const filler = "decode(md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text), 'hex')";

async function backlog(sql: Sql): Promise<void> {
  const step = rows / transactions;
  for (let n = 0; n < transactions; n++) {
    const [first, last] = [Math.round(n * step) + 1, Math.round((n + 1) * step)];
    await sql.unsafe(
      last <= seeded
        ? `UPDATE account SET name = 'secondary ' || id WHERE id BETWEEN ${first} AND ${last}`
        : `INSERT INTO account SELECT i, 'secondary ' || i, ${filler} FROM generate_series(${first}, ${last}) i`,
    );
  }
}

/** So many rows at the primary, of the backlog's or, without conflicts, of another table. */
async function writeAtPrimary(sql: Sql, table: string): Promise<void> {
  await sql.unsafe(`UPDATE ${table} SET name = 'primary ' || id WHERE id % 100 = 0 AND id <= ${seeded}`);
  await sql.unsafe(
    `INSERT INTO ${table} SELECT i, 'primary ' || i, ${filler} FROM generate_series(${seeded + 100}, ${rows}, 100) i`,
  );
}

async function measure(kind: Kind, version: number): Promise<{ seconds: number; conflicts: number; peakMb: number }> {
  const scope = new Scope();
  try {
    const pair = await makePair(scope, {
      version,
      link: true,
      load: async (sql) => {
        for (const table of ["account", "other"]) {
          await sql.unsafe(`CREATE TABLE ${table} (id bigint PRIMARY KEY, name text, data bytea);
            INSERT INTO ${table} SELECT i, 'old ' || i, ${filler} FROM generate_series(1, ${seeded}) i`).simple();
        }
      },
    });
    const { primary, secondary, link } = pair;
    for (const { superuser } of [primary, secondary]) {
      for (const name of ["max_wal_size", "checkpoint_timeout", "fsync", "full_page_writes"]) {
        await superuser.unsafe(`ALTER SYSTEM SET ${name} = '${serverSettings[name]}'`);
      }
      await superuser`SELECT pg_reload_conf()`;
    }
    if (kind === "follow") primary.kill();
    else link.cut();
    await secondary.waitServing();
    if (kind !== "follow") await writeAtPrimary(primary.app(pair.target), kind === "split" ? "other" : "account");
    const app = secondary.app(pair.target);
    await backlog(app);
    await app`INSERT INTO other (id) VALUES (-1)`;
    for (const node of kind === "follow" ? [secondary] : [primary, secondary]) await node.superuser`CHECKPOINT`;
    const agents = () => runningProcesses().filter(({ command }) => / run --home /.test(command)).map(({ pid }) => pid);
    for (const pid of agents()) forgetPeak(pid);
    const start = performance.now();
    if (kind === "follow") primary.start();
    else link.heal();
    const arrived = (sql: Sql) => async () => (await sql`SELECT FROM other WHERE id = -1`).length > 0;
    const limits = { what: "the backlog", deadlineMs: 900_000, everyMs: 10 };
    await waitFor(async () => await arrived(primary.superuser)().catch(() => false), limits);
    // The verdicts have come before whatever is written after them.
    await waitFor(
      async () => await primary.superuser`SELECT FROM ha.state WHERE writable`.then((r) => r.length > 0),
      limits,
    );
    await primary.app(pair.target)`INSERT INTO other (id) VALUES (-2)`;
    await waitFor(async () => (await secondary.superuser`SELECT FROM other WHERE id = -2`).length > 0, limits);
    const seconds = (performance.now() - start) / 1000;
    await waitEqual(primary.superuser, secondary.superuser, 900_000);
    const peakMb = Math.max(...agents().map(peakMemoryMb));
    const [{ conflicts }] = await primary.superuser`SELECT count(*)::int AS conflicts FROM ha.conflict`;
    return { seconds, conflicts, peakMb };
  } finally {
    await scope.close();
  }
}

for (const version of values.versions.split(",").map(Number)) {
  const measured = new Map<Kind, number[]>();
  for (let repetition = 1; repetition <= Number(values.reps); repetition++) {
    for (const kind of values.only.split(",") as Kind[]) {
      const { seconds, conflicts, peakMb } = await measure(kind, version);
      measured.set(kind, [...measured.get(kind) ?? [], seconds]);
      console.log(
        `PostgreSQL ${version}, ${rows} changes, ${what[kind]}: ${seconds.toFixed(1)} s, ${conflicts} conflicts, ` +
          `agents up to ${peakMb.toFixed(0)} MB`,
      );
    }
  }
  const [plain, conflicting] = [measured.get("split"), measured.get("conflicts")];
  if (plain && conflicting) {
    console.log(
      `PostgreSQL ${version}: with conflicts ${(median(conflicting) / median(plain)).toFixed(2)} times as long`,
    );
  }
}
