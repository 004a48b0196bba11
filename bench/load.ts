// The load of bench/overhead.ts, a process of its own: so many clients, each one TPC-B transaction after another, every one a
// single call of bench_tpcb(). Prints how many were committed, and how many a second, as JSON.
import process from "node:process";
import { openPool, type Target } from "../agent/postgres/connect.ts";

const [target, clients, seconds] = process.argv.slice(2);
const sql = openPool(JSON.parse(target) as Target, {
  purpose: "bench",
  max: Number(clients),
  settings: { application_name: "application" },
});
let transactions = 0;
let going = true;
/** Connections, caches and statements are ready after a second; what was done by then does not count. */
const warmUpMs = 1000;
const all = Array.from({ length: Number(clients) }, async () => {
  while (going) {
    await sql`SELECT bench_tpcb()`;
    transactions++;
  }
});
await new Promise((resolve) => setTimeout(resolve, warmUpMs));
const [start, before] = [performance.now(), transactions];
await new Promise((resolve) => setTimeout(resolve, Number(seconds) * 1000));
const counted = transactions - before;
const perSecond = counted / (performance.now() - start) * 1000;
going = false;
await Promise.all(all);
await sql.end();
console.log(JSON.stringify({ transactions: counted, perSecond }));
