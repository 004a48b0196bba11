// Whether this machine knows the collations of a pack, asked of its own PostgreSQL before anything is touched: a trial
// server in a temporary folder says which versions it has. Without the locale of a database nobody could connect to the
// copy; with another version of it the indexes have to be rebuilt.
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RefusedError } from "../errors.ts";
import type { PackManifest } from "../pack/manifest.ts";
import type { Binaries } from "../postgres/binaries.ts";
import { openPool, type Sql } from "../postgres/connect.ts";
import type { OsUser } from "../postgres/os_user.ts";
import { type Cluster, initCluster, localTarget, startCluster, stopCluster } from "../postgres/server.ts";

export type PackCollation = NonNullable<PackManifest["collations"]>[number];

/** What this machine makes of a collation: its version, `missing`, or null where that cannot be told beforehand. */
export type Known = { readonly version: string | null } | "missing" | null;

export interface Sorted {
  /** Their locales are not installed here. */
  readonly missing: readonly PackCollation[];
  /** Sorted otherwise here, with this machine's version. */
  readonly changed: readonly (PackCollation & { readonly here: string | null })[];
}

/** PostgreSQL's own ones are the same in one major version, whatever the machine. */
export const isOfMachine = ({ provider }: Pick<PackCollation, "provider">): boolean =>
  provider === "libc" || provider === "icu";

/** Which collations of a pack this machine does not know, and which it sorts by another version. Pure. */
export function sortCollations(wanted: readonly PackCollation[], known: readonly Known[]): Sorted {
  const missing: PackCollation[] = [];
  const changed: (PackCollation & { here: string | null })[] = [];
  wanted.forEach((one, at) => {
    const here = known[at];
    if (here === "missing") missing.push(one);
    else if (here !== null && here.version !== one.version) changed.push({ ...one, here: here.version });
  });
  return { missing, changed };
}

/** Refuses a pack with locales that this machine has not; in words, which ones are sorted otherwise (null: none). */
export function judgeCollations({ missing, changed }: Sorted): string | null {
  if (missing.length > 0) {
    const locales = [...new Set(missing.map(({ locale }) => locale))].join(", ");
    throw new RefusedError(
      `Cannot use this pack: this machine does not know ${locales}, by which ${
        missing.map(({ label }) => label).join(", ")
      } is sorted`,
      `install that locale (e.g. locale-gen ${missing[0].locale}, or the package locales-all), then again`,
    );
  }
  if (changed.length === 0) return null;
  return [...new Set(changed.map(({ provider, version, here }) => `${provider} ${version} > ${here ?? "none"}`))]
    .join(", ");
}

/** Asks this machine's PostgreSQL about each of them. */
export async function tryCollations(
  binaries: Binaries,
  user: OsUser | null,
  wanted: readonly PackCollation[],
): Promise<Known[]> {
  const folder = mkdtempSync(join(tmpdir(), "hapair-"));
  // PostgreSQL, running as another user, has its data below.
  chmodSync(folder, 0o755);
  const socketDir = join(folder, "run");
  const cluster: Cluster = {
    binaries,
    pgdata: join(folder, "data"),
    port: 3456,
    listen: "",
    socketDir,
    logFile: join(socketDir, "postgres.log"),
    user,
    settings: { fsync: "off", shared_buffers: "16MB", max_connections: "20" },
  };
  try {
    await initCluster(cluster, { sync: false });
    await startCluster(cluster);
    const sql = openPool(localTarget(cluster, "postgres"), { purpose: "setup", max: 1 });
    try {
      const known: Known[] = [];
      for (const one of wanted) known.push(await tryOne(sql, one));
      return known;
    } finally {
      await sql.end({ timeout: 1 });
      await stopCluster(cluster);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function tryOne(sql: Sql, { provider, locale }: PackCollation): Promise<Known> {
  if (!isOfMachine({ provider })) return null;
  const text = `'${locale.replaceAll("'", "''")}'`;
  await sql`DROP COLLATION IF EXISTS public.hapair_trial`;
  try {
    await sql.unsafe(`CREATE COLLATION public.hapair_trial (provider = ${provider}, locale = ${text})`);
  } catch (error) {
    const { message } = error as Error;
    if (/could not create locale|could not open collator|not supported by this build/.test(message)) return "missing";
    // E.g. a locale of another encoding than the trial's: what recovers knows.
    if (/encoding/.test(message)) return null;
    throw error;
  }
  const [{ version }] = await sql<{ version: string | null }[]>`SELECT collversion AS version FROM pg_collation
    WHERE collname = 'hapair_trial'`;
  return { version };
}
