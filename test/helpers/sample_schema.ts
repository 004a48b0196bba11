// A schema that nobody here wrote, with its data: that of pg-boss, a job queue from the npm registry, which makes its tables
// (partitioned ones among them), functions and rows itself, over the connections it is given here.
import { PgBoss } from "pg-boss";
import type { Sql } from "../../agent/postgres/connect.ts";

export const queues = ["mail", "invoice", "report", "failed"] as const;

/** pg-boss on a pool of one connection (it sends whole BEGIN ... COMMIT texts). Background work stays off. */
export async function openJobs(sql: Sql): Promise<PgBoss> {
  const boss = new PgBoss({
    db: { executeSql: (text: string, values?: unknown[]) => execute(sql, text, values) },
    schema: "jobs",
    supervise: false,
    schedule: false,
  });
  boss.on("error", (error) => console.error("pg-boss:", error));
  await boss.start();
  return boss;
}

async function execute(sql: Sql, text: string, values: unknown[] = []): Promise<{ rows: unknown[] }> {
  const result = values.length ? await sql.unsafe(text, values as never[]) : await sql.unsafe(text).simple();
  // Several statements give an array of results; pg-boss looks at all rows together.
  return { rows: (result as unknown[]).flatMap((each) => Array.isArray(each) ? each : [each]) };
}

/** Makes the schema and a few hundred jobs in all states. */
export async function makeJobs(sql: Sql): Promise<void> {
  const boss = await openJobs(sql);
  await boss.createQueue("failed");
  await boss.createQueue("mail", { retryLimit: 1, deadLetter: "failed" });
  await boss.createQueue("invoice", { policy: "singleton" });
  await boss.createQueue("report", { partition: true });
  await boss.schedule("report", "0 3 * * *", { kind: "nightly" });
  await boss.subscribe("ordered", "mail");
  for (const queue of queues) {
    await boss.insert(
      queue,
      Array.from({ length: 100 }, (_, n) => ({ data: { n, text: `job ${n} of "${queue}"` }, priority: n % 3 })),
    );
  }
  await workJobs(boss, ["mail", "invoice", "report"]);
  await boss.stop({ graceful: false });
}

/** What workers do: sends, takes, completes, fails, cancels, deletes jobs. Returns how many it sent. */
export async function workJobs(boss: PgBoss, names: readonly string[], rounds = 5): Promise<number> {
  let sent = 0;
  for (let round = 0; round < rounds; round++) {
    for (const queue of names) {
      const id = await boss.send(queue, { round, at: new Date().toISOString() }, { startAfter: round % 2 ? 3600 : 0 });
      if (id) sent++;
      const jobs = await boss.fetch(queue, { batchSize: 6 });
      const [done, failed, cancelled, deleted] = [jobs.slice(0, 3), jobs.slice(3, 4), jobs.slice(4, 5), jobs.slice(5)]
        .map((some) => some.map((job) => job.id));
      if (done.length) await boss.complete(queue, done, { output: round });
      if (failed.length) await boss.fail(queue, failed, { message: "could not" });
      if (cancelled.length) await boss.cancel(queue, cancelled);
      if (deleted.length) await boss.deleteJob(queue, deleted);
    }
  }
  return sent;
}
