// What the supervisor can do at this node, each idempotent: guard, fence, capture, apply. Wired from the parts; it decides
// nothing.
import { type Lsn, parseLsn } from "../change/lsn.ts";
import type { Config } from "../config.ts";
import type { Sql } from "../postgres/connect.ts";
import { withDeadline } from "../postgres/deadline.ts";
import { ensureTables } from "../postgres/objects.ts";
import type { Gate } from "./gate.ts";
import type { Replication } from "./replication.ts";
import type { SequenceWatch } from "./sequence_watch.ts";
import { closeGuard, fence, type GuardChange, guardIsOpen, openGuard } from "../role/guard.ts";
import type { Record } from "../role/states.ts";
import type { Hands } from "../role/supervisor.ts";

type Doing = Pick<
  Hands,
  | "guardIsOpen"
  | "isShut"
  | "openGuard"
  | "closeGuard"
  | "fence"
  | "startCapture"
  | "stopCapture"
  | "startApply"
  | "stopApply"
>;

/** No action of these takes so long unless its answer was lost. */
const actionMs = 30_000;
const bounded = <T>(work: Promise<T>, what: string, extraMs = 0): Promise<T> =>
  withDeadline(work, actionMs + extraMs, what);

interface Doors {
  readonly sql: Sql;
  readonly sequences: SequenceWatch;
  readonly gate: Gate;
}

/** Whoever waited for it may have given up meanwhile: an open guard is wanted at the moment when it opens, or not at all. */
async function open({ sql, sequences, gate }: Doors, change: GuardChange, stillWanted: () => boolean): Promise<void> {
  if (!stillWanted()) return;
  await ensureTables(sql);
  await sequences.prepare();
  if (!stillWanted()) return;
  gate.unlock();
  await openGuard(sql, change);
}

/** Up to the LSN returned lies all that the application did here, and how far it has taken the sequences. */
async function fenceAndTell({ sql, sequences }: Doors, change: GuardChange, timeoutMs: number): Promise<Lsn> {
  await fence(sql, { ...change, timeoutMs });
  await sequences.tell();
  const [{ lsn }] = await sql<{ lsn: string }[]>`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
  return parseLsn(lsn);
}

/** `replication` is asked for at each call: a new seed brings a new one. */
export function handsOf(config: Config, doors: Doors, replication: () => Replication): Doing {
  const { sql, gate } = doors;
  const { dbname } = config.postgres;
  const change = ({ epoch, state }: Record) => ({ dbname, epoch, state });
  return {
    guardIsOpen: () => bounded(guardIsOpen(sql), "look at the guard"),
    // Not while a batch is applied: it may have been begun on the word that nobody writes here.
    isShut: () => gate.isShut,
    openGuard: (record, stillWanted) =>
      replication().exclusively(() => bounded(open(doors, change(record), stillWanted), "open the guard")),
    closeGuard: (record) => gate.shut(bounded(closeGuard(sql, change(record)), "close the guard")),
    async fence(record): Promise<Lsn> {
      const timeoutMs = config.failover.fence_timeout_ms;
      const lsn = await gate.shut(bounded(fenceAndTell(doors, change(record), timeoutMs), "fence", timeoutMs));
      await bounded(replication().writeFence(), "fence");
      return lsn;
    },
    startCapture: () => bounded(replication().startCapture(), "start capture"),
    stopCapture: () => bounded(replication().endCapture(), "end capture"),
    startApply: () => bounded(replication().startReceiving(), "start applying"),
    stopApply: () => replication().stopReceiving(),
  };
}
