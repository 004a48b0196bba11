// scripts/bench seed: how fast a pack is made, verified and fetched, beside pg_basebackup writing a tar of the same cluster
// to the same disk, in turns. The compiled agent, as an operator would; fails where a pack does not verify.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { chooseUser } from "../agent/postgres/os_user.ts";
import { planPair, setupPrimary } from "../test/helpers/pair.ts";
import { executable } from "../test/helpers/pair_node.ts";
import { Scope } from "../test/helpers/scope.ts";
import { median } from "./results.ts";
import { serverSettings } from "./system.ts";

const { values } = parseArgs({
  options: {
    version: { type: "string", default: "15" },
    mb: { type: "string", default: "500" },
    reps: { type: "string", default: "5" },
    /** The embedded servers come without it. */
    pg_basebackup: { type: "string" },
    /** Another build of the agent, measured beside. */
    other: { type: "string" },
  },
});
const version = Number(values.version);
const program = values.pg_basebackup ?? `/usr/lib/postgresql/${version}/bin/pg_basebackup`;
if (!existsSync(program)) throw new Error(`Cannot compare: there is no ${program}; name one with --pg_basebackup`);
if (process.env.BENCH_DIR) process.env.TMPDIR = process.env.BENCH_DIR;

interface Timed {
  readonly seconds: number;
  readonly peakMb: number;
  readonly stdout: string;
}

/** Runs a program to its end; the most memory that it had is looked at while it runs. */
async function timed(command: string, args: string[], as: { uid?: number; gid?: number } = {}): Promise<Timed> {
  const began = performance.now();
  const child = spawn(command, args, { cwd: "/", stdio: ["ignore", "pipe", "pipe"], ...as });
  let [stdout, stderr, peakMb] = ["", "", 0];
  child.stdout.on("data", (chunk) => stdout += chunk);
  child.stderr.on("data", (chunk) => stderr += chunk);
  const watch = setInterval(() => {
    const status = `/proc/${child.pid}/status`;
    if (!existsSync(status)) return;
    peakMb = Math.max(peakMb, Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(status, "utf8"))?.[1] ?? 0) / 1024);
  }, 20);
  const [code] = await once(child, "close");
  clearInterval(watch);
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${code}: ${stderr}`);
  return { seconds: (performance.now() - began) / 1000, peakMb, stdout };
}

const scope = new Scope();
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => void scope.close().finally(() => process.exit(1)));
}
try {
  const pair = await planPair(scope, { version });
  const { primary } = pair;
  await setupPrimary(pair);
  primary.start();
  await primary.waitServing(60_000);
  const sql = primary.superuser;
  for (const name of ["fsync", "full_page_writes"] as const) {
    await sql.unsafe(`ALTER SYSTEM SET ${name} = '${serverSettings[name]}'`);
  }
  // Text that does not repeat, as the tables of an application hold.
  await sql.unsafe(`CREATE TABLE load AS SELECT i, string_agg(md5(i::text || j::text), '') AS t
    FROM generate_series(1, ${Math.round(Number(values.mb) * 1000)}) i, generate_series(1, 30) j GROUP BY i`);
  await sql`CHECKPOINT`;
  const user = chooseUser({ pgdata: primary.pgdata });
  const copy = join(scope.dir, "basebackup");
  const create = async (program: string) => {
    const ran = await timed(program, ["pack", "create", "--home", primary.home]);
    return { ...ran, bytes: statSync(join(primary.home, "replication", "HAPack.zip")).size };
  };
  const ways: Record<string, () => Promise<Timed & { bytes: number }>> = {
    async pg_basebackup() {
      rmSync(copy, { recursive: true, force: true });
      mkdirSync(copy);
      chmodSync(copy, 0o700);
      if (user) chownSync(copy, user.uid, user.gid);
      const connection = ["-h", join(primary.home, "run"), "-p", String(primary.pgPort), "-U", "postgres"];
      const ran = await timed(program, [...connection, "-D", copy, "-F", "t", "-X", "fetch", "-c", "fast"], user ?? {});
      return { ...ran, bytes: statSync(join(copy, "base.tar")).size };
    },
    "agent pack create": () => create(executable),
    ...(values.other === undefined ? {} : { "the other build": () => create(values.other!) }),
  };
  const runs: Record<string, (Timed & { bytes: number })[]> = {};
  for (let rep = 0; rep <= Number(values.reps); rep++) {
    for (const [name, way] of Object.entries(ways)) {
      spawnSync("sync");
      const run = await way();
      // The first of each fills the caches.
      if (rep > 0) (runs[name] ??= []).push(run);
      console.error(`${rep}. ${name}: ${(run.bytes / 1e6 / run.seconds).toFixed(0)} MB/s, ${run.peakMb.toFixed(0)} MB`);
    }
  }
  const verified = await timed(executable, [
    ...["pack", "verify", join(primary.home, "replication", "HAPack.zip"), "--home", primary.home],
  ]);
  const rate = (run: Timed & { bytes: number }) => run.bytes / 1e6 / run.seconds;
  console.log(`PostgreSQL ${version}, ${(runs.pg_basebackup[0].bytes / 1e6).toFixed(0)} MB of tar`);
  for (const [name, own] of Object.entries(runs)) {
    const rates = own.map(rate).sort((a, b) => a - b);
    console.log(
      `${name.padEnd(20)} ${median(rates).toFixed(0)} MB/s (${rates[0].toFixed(0)}-${rates.at(-1)!.toFixed(0)}), ` +
        `peak memory ${Math.max(...own.map((run) => run.peakMb)).toFixed(0)} MB`,
    );
  }
  const [native, ours] = [runs.pg_basebackup, runs["agent pack create"]].map((own) => median(own.map(rate)));
  console.log(`ratio                ${(ours / native).toFixed(2)}`);
  console.log(`agent pack verify    ${(runs["agent pack create"][0].bytes / 1e6 / verified.seconds).toFixed(0)} MB/s`);
} finally {
  await scope.close();
}
