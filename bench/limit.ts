// The limit: how fast the source's server gives a backlog away. A reader of the same kind as hapair's relay drains a slot
// like hapair's to nowhere; nothing is applied, so no system that decodes by pgoutput can be faster on one slot.
import { type ChildProcess, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { publicationName, slotName } from "../agent/change/marks.ts";
import { waitFor } from "../test/helpers/wait.ts";
import { makeBenchServer } from "./servers.ts";
import type { System, SystemOptions } from "./system.ts";
import type { Scope } from "../test/helpers/scope.ts";

const program = join(dirname(fileURLToPath(import.meta.url)), "drain.ts");

export async function makeLimit(scope: Scope, options: SystemOptions): Promise<System> {
  const server = await makeBenchServer(scope, options);
  const source = server.pool();
  await source.unsafe(`CREATE PUBLICATION ${publicationName} FOR ALL TABLES`);
  await source`SELECT pg_create_logical_replication_slot(${slotName}, 'pgoutput')`;
  let reader: ChildProcess | null = null;
  /** Where the last commit that the reader has told of ends. */
  let position = 0n;
  const end = async () => {
    const ending = reader;
    reader = null;
    if (!ending || ending.exitCode !== null) return;
    ending.kill("SIGKILL");
    await waitFor(async () => {
      const [{ active }] = await source`SELECT active FROM pg_replication_slots WHERE slot_name = ${slotName}`;
      return !active;
    }, { what: "the slot to be free", deadlineMs: 30_000 });
  };
  scope.defer("the reader of the slot", end);
  return {
    source,
    sourceTarget: server.target(),
    sink: null,
    pgdata: [server.cluster.pgdata],
    async pause() {
      await end();
      // Else the next reader would be given all that was before.
      await source`SELECT pg_replication_slot_advance(${slotName}, pg_current_wal_insert_lsn())`;
    },
    async resume() {
      const { host, port, user, database } = server.target();
      reader = spawn(process.execPath, [program, JSON.stringify({ host, port, user, database })], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      createInterface({ input: reader.stdout! }).on("line", (line) => {
        position = BigInt(line);
      });
      await Promise.resolve();
    },
    arrived: async ({ after }) => await Promise.resolve(position > after),
    check: async () => {},
    programs: (): Record<string, number> => reader?.pid ? { reader: reader.pid } : {},
  };
}
