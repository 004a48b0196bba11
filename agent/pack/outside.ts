// Whatever lies in PostgreSQL's data folder goes into a base backup. So no key may lie there, nor the pack itself.
import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { RefusedError } from "../errors.ts";
import type { Sql } from "../postgres/connect.ts";
import type { MasterKey } from "../trust/key.ts";

/** Throws RefusedError where the key, or the pack that is to be made, lies in the data folder of the server. */
export async function refuseInData(sql: Sql, key: MasterKey, pack: string): Promise<void> {
  const [{ folder }] = await sql<{ folder: string }[]>`select current_setting('data_directory') as folder`;
  refuseInside(folder, { "the master key": key.path, "the pack": pack });
}

/** Links are followed, and a file need not be there yet. */
export function refuseInside(dataFolder: string, files: Readonly<Record<string, string>>): void {
  const folder = real(dataFolder);
  for (const [what, path] of Object.entries(files)) {
    if (!real(path).startsWith(folder + sep)) continue;
    throw new RefusedError(
      `Cannot copy the database: ${what} ${path} lies in its data folder ${dataFolder}, all of which is copied`,
      "move it elsewhere: the master key as named in manage_key.conf, the home as named with --home",
    );
  }
}

/** With all links followed, as far as the path is there. */
function real(path: string): string {
  const full = resolve(path);
  try {
    return realpathSync(full);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if ((code !== "ENOENT" && code !== "EACCES") || dirname(full) === full) throw error;
    return join(real(dirname(full)), basename(full));
  }
}
