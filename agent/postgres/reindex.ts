// Rebuilds the indexes of a copy whose machine sorts otherwise than the one that it was made on. Only for a server that
// no client can reach yet: an index that is being rebuilt locks its table.
import type { CollationFacts } from "../check_report.ts";
import { isStale, readCollations } from "./collations.ts";
import { openPool, type Sql, type Target } from "./connect.ts";

export interface Rebuilt {
  readonly indexes: number;
  /** As in `libc 2.31 > 2.36`, each once. */
  readonly versions: readonly string[];
}

/** In every database of the server: all indexes of stale collations are rebuilt, then the new versions are recorded. */
export async function rebuildStaleIndexes(target: Target): Promise<Rebuilt> {
  const list = openPool(target, { purpose: "setup", max: 1 });
  const versions = new Set<string>();
  let indexes = 0;
  try {
    const databases = await list<{ name: string }[]>`SELECT datname AS name FROM pg_database WHERE datallowconn`;
    for (const { name } of databases) {
      // As replica: the guard's event trigger, which refuses DDL on a closed server, does not fire.
      const settings = { session_replication_role: "replica" };
      const sql = openPool({ ...target, database: name }, { purpose: "setup", max: 1, settings });
      try {
        const stale = (await readCollations(sql)).filter((one) =>
          isStale(one) && (!one.ofDatabase || one.label === name)
        );
        for (const { provider, recorded, actual } of stale) {
          versions.add(`${provider} ${recorded} > ${actual ?? "none"}`);
        }
        indexes += await rebuild(sql, stale);
      } finally {
        await sql.end({ timeout: 5 });
      }
    }
  } finally {
    await list.end({ timeout: 5 });
  }
  return { indexes, versions: [...versions].sort() };
}

async function rebuild(sql: Sql, stale: readonly CollationFacts[]): Promise<number> {
  const indexes = new Set(stale.flatMap((one) => one.indexes));
  // The names come quoted from the server.
  for (const index of indexes) await sql.unsafe(`REINDEX INDEX ${index}`);
  for (const { ofDatabase, label } of stale) {
    if (ofDatabase) await sql`ALTER DATABASE ${sql(label)} REFRESH COLLATION VERSION`;
    else await sql.unsafe(`ALTER COLLATION ${label} REFRESH VERSION`);
  }
  return indexes.size;
}
