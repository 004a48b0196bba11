// One direction of replication without agents: the relay of one server feeding the receiver of another in this process.
import { PassThrough } from "node:stream";
import { Receiver } from "../../agent/apply/receiver.ts";
import type { OwnChanges } from "../../agent/apply/own_changes.ts";
import { slotName } from "../../agent/change/marks.ts";
import { defaultPolicy } from "../../agent/merge/policy.ts";
import { History, parseSnapshot } from "../../agent/merge/history.ts";
import { openPool, type Sql } from "../../agent/postgres/connect.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { ensureTables } from "../../agent/postgres/objects.ts";
import { Relay, type Sink } from "../../agent/relay/relay.ts";
import { startSession } from "../../agent/wal/session.ts";
import { ensureSlot } from "../../agent/wal/slot.ts";
import type { TestServer } from "./servers.ts";
import { waitFor } from "./wait.ts";

export interface Flow {
  readonly troubles: string[];
  readonly conflicts: string[];
  /** Resolves when everything committed on the source so far is applied on the target. */
  settled(deadlineMs?: number): Promise<void>;
  stop(): Promise<void>;
}

/** Makes schema ha, publication and slot on a server that already has its tables. */
export async function prepare(server: TestServer, database: string): Promise<Sql> {
  const sql = server.pool({ database });
  await migrate(sql);
  await ensureTables(sql);
  await ensureSlot(sql, slotName);
  await sql`INSERT INTO ha.progress (generation, applied_lsn) VALUES ('g', '0/0') ON CONFLICT DO NOTHING`;
  return sql;
}

/** Starts replication from `source` to `target`, both prepared. */
export async function startFlow(
  source: TestServer,
  target: TestServer,
  database: string,
  own: () => OwnChanges | null = () => null,
): Promise<Flow> {
  const from = openPool(source.target(database), { purpose: "flow" });
  const troubles: string[] = [];
  const conflicts: string[] = [];
  const [{ snapshot }] = await from`SELECT pg_current_snapshot()::text AS snapshot`;
  const history = new History(parseSnapshot(snapshot, 0n));
  const relay = new Relay({
    role: "primary",
    openSession: (confirmed, onChunk) => startSession(source.target(database), slotName, confirmed, onChunk),
    mark: async (text) => {
      await from`SELECT pg_logical_emit_message(true, 'ha_mark', ${text}::text)`;
      return () => {};
    },
    ledger: {
      noteCommit: (xid, lsn, time) => history.noteCommit(xid, lsn, time),
      noteVerdict: () => {},
      noteQuestion: () => {},
      noteDelete: (row, lsn, time) => history.noteDelete(row, lsn, time),
      noteTruncate: (schema, table, lsn, time) => history.noteTruncate(schema, table, lsn, time),
      prune: (seen) => history.prune(seen),
    },
    readKeys: () => Promise.resolve(new Map()),
    peerMayWrite: () => false,
    onFailure: (message) => troubles.push(message),
    onRead: () => {},
  });
  relay.start();
  const receiver = new Receiver({
    role: "secondary",
    own,
    policyOf: () => defaultPolicy,
    onConflict: ({ kind, schema, table }) => conflicts.push(`${kind} ${schema}.${table}`),
    hasWriters: () => false,
    fetchRow: () => Promise.reject(new Error("nobody asks the peer for a row in this flow")),
    openStream: (after, signal) => {
      const stream = new PassThrough({ highWaterMark: 1024 * 1024 });
      const sink: Sink = {
        write: (frames) => stream.write(frames),
        onDrain: (listener) => void stream.on("drain", listener),
        end: () => void stream.end(),
      };
      relay.serve(after, sink, signal).catch((error) => troubles.push(String(error)));
      return Promise.resolve(stream);
    },
    openSql: (onClose) =>
      openPool(target.target(database), {
        purpose: "apply",
        onClose,
        max: 1,
        settings: { session_replication_role: "replica" },
      }),
    onProgress: ({ position }) => relay.acknowledge(position),
    onTrouble: (problem) => problem && troubles.push(problem.message),
    ready: () => Promise.resolve(),
    exclusively: (run) => run(),
  });
  receiver.start();
  return {
    troubles,
    conflicts,
    async settled(deadlineMs = 60_000) {
      const [{ lsn }] = await from`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
      await from`SELECT pg_logical_emit_message(true, 'ha_fence', '')`;
      await waitFor(async () => {
        const sql = target.pool({ database, max: 1 });
        const [{ done }] = await sql`SELECT applied_lsn >= ${lsn}::pg_lsn AS done FROM ha.progress`;
        await sql.end();
        return done;
      }, { deadlineMs, what: `everything up to ${lsn} applied` })
        .catch((error) => {
          throw new Error(`${error.message} (${troubles.slice(-3).join("; ")})`);
        });
    },
    async stop() {
      await receiver.stop();
      await relay.stop();
      await from.end({ timeout: 1 });
    },
  };
}
