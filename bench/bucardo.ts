// Bucardo as a system of the bench: two sources, as it is set up where both sides may be written; its own database lies on
// the source's server. It moves nothing before it is kicked, unless the bench asks for steady work.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Sql, Target } from "../agent/postgres/connect.ts";
import { isAlive, runningProcesses, sendSignal } from "../test/helpers/processes.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { waitFor } from "../test/helpers/wait.ts";
import { hasLibrary, makeBenchServer, targetFor } from "./servers.ts";
import { endingIn, type System, type SystemOptions } from "./system.ts";

const program = "/usr/bin/bucardo";
const deadlineMs = 60_000;

/** Why it cannot be measured with that version; null if it can. */
export function bucardoMissing(version: number): string | null {
  const missing = [
    ...(existsSync(program) ? [] : ["bucardo"]),
    ...(hasLibrary(version, "plperl.so") ? [] : [`postgresql-plperl-${version}`]),
  ];
  return missing.length === 0
    ? null
    : `${missing.join(" and ")} of Debian ${missing.length > 1 ? "are" : "is"} not installed`;
}

export async function makeBucardo(scope: Scope, options: SystemOptions): Promise<System> {
  const from = await makeBenchServer(scope, options);
  const into = await makeBenchServer(scope, options);
  const source = from.pool();
  const sink = into.pool();
  const { host, port } = from.target();
  const control = new Control(scope.dir, { host, port });
  const tables = await source<{ name: string }[]>`
    SELECT 'public.' || relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`;
  await control.run(["install", "--batch"]);
  const files = ["reason_file", "log_conflict_file", "warning_file"].map((file) => `${file}=${scope.dir}/${file}`);
  await control.run(["set", `piddir=${scope.dir}`, ...files]);
  await control.run(["add", "db", "source", ...whereIs(from.target())]);
  await control.run(["add", "db", "sink", ...whereIs(await targetFor(scope, into, options.distance))]);
  await control.run(["add", "dbgroup", "both", "source:source", "sink:source"]);
  await control.run(["add", "tables", ...tables.map(({ name }) => name), "db=source", "relgroup=all"]);
  const kick = `autokick=${options.steady ? 1 : 0}`;
  await control.run(["add", "sync", "bench", "relgroup=all", "dbs=both", kick, "onetimecopy=0"]);
  scope.defer("Bucardo", () => control.stop());
  await control.run(["start", `--log-destination=${scope.dir}`]);
  await waitFor(() => control.programs().some(({ command }) => command.includes("Kid")), {
    what: "the processes of Bucardo",
    deadlineMs,
  });
  const own = from.pool({ database: "bucardo", max: 1 });
  return {
    source,
    sourceTarget: from.target(),
    ...endingIn(source, sink, ["bucardo"]),
    pgdata: [from.cluster.pgdata, into.cluster.pgdata],
    async pause() {
      await waitFor(async () => await isIdle(source) && await isIdle(sink), { what: "Bucardo to rest", deadlineMs });
    },
    resume: async () => void await own`NOTIFY bucardo, 'kick_sync_bench'`,
    programs: () => byName(control.programs()),
  };
}

function whereIs({ host, port, user, database, password = "" }: Target): string[] {
  return [`dbname=${database}`, `host=${host}`, `port=${port}`, `user=${user}`, `pass=${password}`];
}

/** A sync takes its time to end after its last row can be read, and rests for moments within. */
async function isIdle(sql: Sql): Promise<boolean> {
  const [{ busy }] = await sql`
    SELECT count(*)::int AS busy FROM pg_stat_activity WHERE application_name ILIKE 'bucardo kid%'
      AND (state <> 'idle' OR clock_timestamp() - state_change < interval '1 second')`;
  return busy === 0;
}

/** By kind, as in `Kid`; of each kind there may be several. */
function byName(programs: readonly { pid: number; command: string }[]): Record<string, number> {
  const named: Record<string, number> = {};
  for (const { pid, command } of programs) {
    const kind = /^Bucardo (\w+)/.exec(command)?.[1] ?? "another";
    const before = Object.keys(named).filter((name) => name.startsWith(kind)).length;
    named[before === 0 ? kind : `${kind} ${before + 1}`] = pid;
  }
  return named;
}

/** Its command line, on a folder of its own. */
class Control {
  private readonly settings: string;

  constructor(private readonly folder: string, { host, port }: { host: string; port: number }) {
    this.settings = join(folder, "bucardorc");
    const lines = { dbhost: host, dbport: port, dbname: "bucardo", dbuser: "postgres", piddir: folder };
    writeFileSync(this.settings, Object.entries(lines).map(([name, value]) => `${name} = ${value}\n`).join(""));
  }

  /** Throws where it ends otherwise than with 0; what it has said is in the error. */
  async run(args: string[]): Promise<void> {
    // Not a pipe: the processes that it starts would keep that open.
    const said = join(this.folder, "said");
    const output = openSync(said, "w");
    const child = spawn(program, [`--bucardorc=${this.settings}`, ...args], {
      cwd: "/",
      stdio: ["ignore", output, output],
    });
    const [status] = await once(child, "exit");
    closeSync(output);
    if (status === 0) return;
    throw new Error(`Cannot run bucardo ${args.join(" ")}: it ended with ${status}: ${readFileSync(said, "utf8")}`);
  }

  /** Its processes, the first one first. */
  programs(): { pid: number; command: string }[] {
    const file = join(this.folder, "bucardo.mcp.pid");
    const first = existsSync(file) ? Number.parseInt(readFileSync(file, "utf8")) : NaN;
    const all = runningProcesses();
    const found = all.filter(({ pid }) => pid === first);
    for (let i = 0; i < found.length; i++) found.push(...all.filter(({ parent }) => parent === found[i].pid));
    return found;
  }

  async stop(): Promise<void> {
    const running = this.programs();
    try {
      await this.run(["stop"]);
      const ended = () => running.every(({ pid }) => !isAlive(pid));
      await waitFor(ended, { what: "the end of Bucardo", deadlineMs });
    } finally {
      for (const { pid } of running) sendSignal(pid, "SIGKILL");
    }
  }
}
