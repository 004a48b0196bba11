// pglogical as a system of the bench: a node on each server and a subscription with the defaults of the version.
import type { Sql, Target } from "../agent/postgres/connect.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { waitFor } from "../test/helpers/wait.ts";
import { conninfo, hasLibrary, makeBenchServer, targetFor } from "./servers.ts";
import { endingIn, type System, type SystemOptions } from "./system.ts";

/** Why it cannot be measured with that version; null if it can. */
export function pglogicalMissing(version: number): string | null {
  return hasLibrary(version, "pglogical.so") ? null : `postgresql-${version}-pglogical of Debian is not installed`;
}

const deadlineMs = 30_000;

export async function makePglogical(scope: Scope, options: SystemOptions): Promise<System> {
  const preload = { shared_preload_libraries: "pglogical" };
  const from = await makeBenchServer(scope, options, preload);
  const into = await makeBenchServer(scope, options, preload);
  const source = from.pool();
  const sink = into.pool();
  await makeNode(source, "source", from.target());
  await makeNode(sink, "sink", into.target());
  await source`SELECT pglogical.replication_set_add_all_tables('default', ARRAY['public'])`;
  const followed = conninfo(await targetFor(scope, from, options.distance));
  await sink`SELECT pglogical.create_subscription('bench', ${followed}, '{default}', false, false, '{}')`;
  const running = async () => {
    const [{ active }] = await source`SELECT count(*) FILTER (WHERE active)::int AS active FROM pg_replication_slots`;
    const [{ workers }] = await sink`
      SELECT count(*)::int AS workers FROM pg_stat_activity WHERE application_name LIKE 'pglogical apply%'`;
    return { active: active > 0, idle: active === 0 && workers === 0 };
  };
  await waitFor(async () => (await running()).active, { what: "the subscription to stream", deadlineMs });
  return {
    source,
    sourceTarget: from.target(),
    ...endingIn(source, sink, ["pglogical"]),
    pgdata: [from.cluster.pgdata, into.cluster.pgdata],
    async pause() {
      await sink`SELECT pglogical.alter_subscription_disable('bench', true)`;
      await waitFor(async () => (await running()).idle, { what: "the subscription to rest", deadlineMs });
    },
    resume: async () => void await sink`SELECT pglogical.alter_subscription_enable('bench', true)`,
    programs: () => ({}),
  };
}

async function makeNode(sql: Sql, name: string, target: Target): Promise<void> {
  await sql`CREATE EXTENSION pglogical`;
  await sql`SELECT pglogical.create_node(${name}, ${conninfo(target)})`;
}
