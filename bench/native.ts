// PostgreSQL's own logical replication as a system of the bench: a publication and a subscription with the defaults of
// the version (streaming is off on 15 and parallel on 18), over the unix socket; and the source alone, without anybody
// who follows it.
import type { Scope } from "../test/helpers/scope.ts";
import { waitFor } from "../test/helpers/wait.ts";
import { conninfo, makeBenchServer, targetFor } from "./servers.ts";
import { endingIn, type System, type SystemOptions } from "./system.ts";

export async function makeNative(scope: Scope, options: SystemOptions): Promise<System> {
  const from = await makeBenchServer(scope, options);
  const into = await makeBenchServer(scope, options);
  const source = from.pool();
  const sink = into.pool();
  await source`CREATE PUBLICATION bench FOR ALL TABLES`;
  const followed = conninfo(await targetFor(scope, from, options.distance));
  await sink.unsafe(`CREATE SUBSCRIPTION bench CONNECTION '${followed}'
    PUBLICATION bench WITH (copy_data = false)`);
  const running = async () => {
    const [{ active }] = await source`SELECT active FROM pg_replication_slots WHERE slot_name = 'bench'`;
    const [{ workers }] = await sink`SELECT count(*)::int AS workers FROM pg_stat_subscription WHERE pid IS NOT NULL`;
    return { active, idle: !active && workers === 0 };
  };
  await waitFor(async () => (await running()).active, { what: "the subscription to stream", deadlineMs: 30_000 });
  return {
    source,
    sourceTarget: from.target(),
    ...endingIn(source, sink),
    pgdata: [from.cluster.pgdata, into.cluster.pgdata],
    async pause() {
      await sink`ALTER SUBSCRIPTION bench DISABLE`;
      await waitFor(async () => (await running()).idle, { what: "the subscription to rest", deadlineMs: 30_000 });
    },
    resume: async () => void await sink`ALTER SUBSCRIPTION bench ENABLE`,
    programs: () => ({}),
  };
}

/** Nobody follows: what the source does alone. */
export async function makeAlone(scope: Scope, options: SystemOptions): Promise<System> {
  const server = await makeBenchServer(scope, options);
  return {
    source: server.pool(),
    sourceTarget: server.target(),
    sink: null,
    pgdata: [server.cluster.pgdata],
    pause: async () => {},
    resume: async () => {},
    arrived: () => Promise.reject(new Error("Cannot measure: nobody follows the source")),
    check: async () => {},
    programs: () => ({}),
  };
}
