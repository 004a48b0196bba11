// One session with the settings of the applier's, and tables as the applier's parts take them, for tests of these parts.
import type { Plan } from "../../agent/apply/plan.ts";
import { Relations, shapeOf } from "../../agent/apply/relations.ts";
import type { RowShape } from "../../agent/apply/rows.ts";
import { readRelation } from "../../agent/postgres/catalog.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import type { TestServer } from "./servers.ts";

/** Makes tables of the script, then a session in which no foreign key or recheck trigger fires. */
export async function applierSession(server: TestServer, script: string): Promise<Sql> {
  await server.pool().unsafe(script);
  const settings = { session_replication_role: "replica", search_path: "pg_catalog, public, pg_temp" };
  return server.pool({ max: 1, settings });
}

export async function readShape(sql: Sql, table: string, schema = "public"): Promise<RowShape> {
  const local = await readRelation(sql, schema, table);
  if (!local) throw new Error(`no table ${schema}.${table}`);
  return shapeOf(local);
}

/** Runs `body` in a transaction of the session. */
export async function inTransaction<T>(sql: Sql, body: () => Promise<T>): Promise<T> {
  await sql.unsafe("BEGIN");
  try {
    return await body();
  } finally {
    await sql.unsafe("ROLLBACK");
  }
}

/** Plans of tables in public, with staging tables, as if the peer had described the same ones. Outside of a transaction. */
export async function readPlans(sql: Sql, ...tables: string[]): Promise<Plan[]> {
  const types = await sql`SELECT t.oid, n.nspname AS schema, t.typname AS name
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid >= 16384`;
  const names = new Map(types.map(({ oid, schema, name }) => [oid as number, { oid, schema, name }]));
  const relations = new Relations(sql);
  const plans: Plan[] = [];
  for (const table of tables) {
    const local = await readRelation(sql, "public", table);
    if (!local) throw new Error(`no table public.${table}`);
    const { oid, replicaIdentity, primaryKey } = local;
    const columns = local.columns.filter((c) => !c.generated).map(({ name, typeOid, typmod }) => (
      { name, typeOid, typmod, key: primaryKey.includes(name) || primaryKey.length === 0 }
    ));
    const relation = { oid, schema: "public", name: table, replicaIdentity, columns };
    await relations.load(relation, names);
    plans.push(relations.plan(relation));
  }
  return plans;
}
