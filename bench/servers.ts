// The servers of a bench: Debian's programs where they are installed, as the packages of some systems belong to those, else
// npm's. All systems of one version are measured with the same programs.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Target } from "../agent/postgres/connect.ts";
import type { Scope } from "../test/helpers/scope.ts";
import { embeddedBinDir, makeServer, type TestServer } from "../test/helpers/servers.ts";
import { serverSettings, type SystemOptions } from "./system.ts";
import { type Distance, openDistance } from "./wan.ts";

const debianDir = (version: number) => `/usr/lib/postgresql/${version}`;

/** The folder of the programs that a bench uses of a major version. */
export function programsOf(version: number): string {
  const debian = join(debianDir(version), "bin");
  return existsSync(join(debian, "postgres")) ? debian : embeddedBinDir(version);
}

/** As in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`. */
export function versionText(version: number): string {
  return spawnSync(join(programsOf(version), "postgres"), ["--version"], { cwd: "/", encoding: "utf8" }).stdout.trim();
}

/** Whether a library of an extension, as in `pglogical.so`, is installed for those programs. */
export function hasLibrary(version: number, library: string): boolean {
  return programsOf(version).startsWith(debianDir(version)) && existsSync(join(debianDir(version), "lib", library));
}

/** A server of its own with the tables of the workloads; `settings` are added to those of all servers. */
export async function makeBenchServer(
  scope: Scope,
  { version, schema }: Pick<SystemOptions, "version" | "schema">,
  settings: Readonly<Record<string, string>> = {},
): Promise<TestServer> {
  const server = await makeServer(version, {
    binDir: programsOf(version),
    settings: { ...serverSettings, ...settings },
  });
  scope.defer("a server of the bench", () => server.dispose());
  await server.pool({ max: 1 }).unsafe(schema).simple();
  return server;
}

/** How the other server reaches this one: over its socket, or the long way, where it asks for a password. */
export async function targetFor(scope: Scope, server: TestServer, distance: Distance | null): Promise<Target> {
  const target = server.target();
  if (!distance) return target;
  const far = await openDistance(scope, { host: "127.0.0.1", port: target.port }, distance);
  const password = "bench";
  await server.pool({ max: 1 }).unsafe(`ALTER ROLE ${target.user} PASSWORD '${password}'`);
  return { ...target, ...far, password };
}

/** As libpq takes it. */
export function conninfo({ host, port, user, database, password }: Target): string {
  const near = `host=${host} port=${port} user=${user} dbname=${database}`;
  return password === undefined ? near : `${near} password=${password}`;
}
