// PostgreSQL's own logical replication as a system of the bench: a publication and a subscription with the defaults of
// the version (streaming is off on 15 and parallel on 18), over the unix socket.
import { makeServer } from "../test/helpers/servers.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { waitFor } from "../test/helpers/wait.ts";
import { serverSettings, type System } from "./system.ts";

export async function makeNative(scope: Scope, version: number, schema: string): Promise<System> {
  const from = await makeServer(version, { settings: serverSettings });
  scope.defer("the publisher", () => from.dispose());
  const into = await makeServer(version, { settings: serverSettings });
  scope.defer("the subscriber", () => into.dispose());
  const source = from.pool();
  const sink = into.pool();
  for (const sql of [source, sink]) await sql.unsafe(schema).simple();
  const { host, port, user, database } = from.target();
  await source`CREATE PUBLICATION bench FOR ALL TABLES`;
  await sink.unsafe(`CREATE SUBSCRIPTION bench CONNECTION 'host=${host} port=${port} user=${user} dbname=${database}'
    PUBLICATION bench WITH (copy_data = false)`);
  const running = async () => {
    const [{ active }] = await source`SELECT active FROM pg_replication_slots WHERE slot_name = 'bench'`;
    const [{ workers }] = await sink`SELECT count(*)::int AS workers FROM pg_stat_subscription WHERE pid IS NOT NULL`;
    return { active, idle: !active && workers === 0 };
  };
  await waitFor(async () => (await running()).active, { what: "the subscription to stream", deadlineMs: 30_000 });
  return {
    source,
    sink,
    pgdata: [from.cluster.pgdata, into.cluster.pgdata],
    async pause() {
      await sink`ALTER SUBSCRIPTION bench DISABLE`;
      await waitFor(async () => (await running()).idle, { what: "the subscription to rest", deadlineMs: 30_000 });
    },
    resume: async () => void await sink`ALTER SUBSCRIPTION bench ENABLE`,
    programs: () => ({}),
  };
}
