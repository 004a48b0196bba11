// Applies batches of the peer's changes to the local database, each in one transaction with the progress record, the
// conflict log and the replication origin. After an error the connection is given up; nothing of the batch remains.
import { formatLsn, type Lsn } from "../change/lsn.ts";
import { idlePrefix, originName } from "../change/marks.ts";
import type { Relation } from "../change/pgoutput.ts";
import type { Role } from "../merge/classify.ts";
import type { TablePolicy } from "../merge/policy.ts";
import type { Sql } from "../postgres/connect.ts";
import { BatchWriter } from "./batch_writer.ts";
import { BulkWriter } from "./bulk.ts";
import type { ConflictEntry } from "./conflict_log.ts";
import type { Batch, Inbox, Op } from "./inbox.ts";
import { KnownConstraints } from "./known_constraints.ts";
import { newValues, prepareRehearsal, rehearsedValues } from "./new_values.ts";
import { Outcomes } from "./outcomes.ts";
import type { OwnChanges } from "./own_changes.ts";
import { timestampLiteral } from "./plan.ts";
import { Relations } from "./relations.ts";
import type { Image } from "./rows.ts";
import { Touched } from "./touched.ts";

export interface ApplierDeps {
  readonly role: Role;
  /** A pool of one connection, in a session whose replication role is replica. */
  readonly sql: Sql;
  readonly inbox: Inbox;
  /** This node's own changes; null while it has none that the peer could have missed and makes none. */
  readonly own: () => OwnChanges | null;
  readonly policyOf: (label: string) => TablePolicy;
  /** Told of each conflict that is logged; what it is told of the rows goes nowhere else. */
  readonly onConflict: (entry: ConflictEntry) => void;
  /** The peer's row of this key as it is there now; null if it has none. */
  readonly fetchRow: (row: { schema: string; table: string; key: Image }) => Promise<Image | null>;
  /** For `rehearse` and `rollBack` alone: no entry and no verdict is written, and no sequence moves. */
  readonly rehearsal?: boolean;
}

/**
 * Writes once more what is applied here, as a transaction of the peer's: whatever this node commits from now on carries
 * it as its `seen`. For a capture that has just begun, whose stream has nothing of the past. `sql` as in ApplierDeps.
 */
export async function repeatProgress(sql: Sql): Promise<void> {
  await takeOrigin(sql);
  await sql.unsafe(
    `BEGIN;
     SELECT pg_replication_origin_xact_setup(applied_lsn, now()) FROM ha.progress;
     UPDATE ha.progress SET updated_at = clock_timestamp();
     COMMIT`,
  ).simple();
}

/**
 * Takes the replication origin for this session; ends a session of an earlier agent that still holds it. What is applied is
 * certain only after that: the earlier session may have been about to commit.
 */
export async function takeOrigin(sql: Sql): Promise<void> {
  await sql.unsafe(`SELECT pg_replication_origin_create('${originName}')
    WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = '${originName}')`);
  await sql.unsafe(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()
      AND datname = current_database()`);
  await sql.unsafe(`SELECT pg_replication_origin_session_setup('${originName}')`);
}

/** Rows in a staging table that are worth emptying it: within a transaction, and at its end. */
const stagedRows = { within: 200_000, after: 2000 };

export class Applier {
  private readonly relations: Relations;
  private readonly outcomes: Outcomes;
  private readonly writer: BatchWriter;
  private open = false;
  private peerOrigin = "";

  constructor(private readonly deps: ApplierDeps) {
    const { sql, role, own, policyOf, fetchRow, onConflict, rehearsal = false } = deps;
    const relations = new Relations(sql);
    const constraints = new KnownConstraints(sql);
    this.relations = relations;
    this.outcomes = new Outcomes({ sql, role, own, rehearsal, onConflict });
    const types = () => relations.types;
    const peerOrigin = () => this.peerOrigin;
    const shapeOf = (schema: string, table: string) => relations.shape(schema, table);
    const touched = new Touched({
      sql,
      role,
      own,
      peerOrigin,
      policyOf,
      types,
      shapeOf,
      fetchRow,
      planOf: (op) => relations.plan(op.relation!),
      foreignKeysOf: async (schema, table) => (await constraints.of(schema, table)).foreignKeys,
      outcomes: this.outcomes,
    });
    this.writer = new BatchWriter({
      sql,
      role,
      own,
      peerOrigin,
      policyOf,
      fetchRow,
      types,
      relations,
      planOf: (relation) => relations.plan(relation),
      rulesOf: async ({ schema, table }) => (await constraints.of(schema, table)).rules,
      isReferred: ({ schema, table }) => constraints.isReferred(schema, table),
      shapeOf,
      newValue: rehearsal ? rehearsedValues(sql) : newValues(sql),
      outcomes: this.outcomes,
      touched,
      bulk: new BulkWriter(sql, types),
    });
  }

  /** In the midst of a transaction of the peer's, of which pieces are written. */
  get inTransaction(): boolean {
    return this.open;
  }

  /** Readies the session, which has the origin. */
  async start(): Promise<void> {
    const { sql } = this.deps;
    // Operators of extensions' types (citext and the like) are found by the search path alone.
    const [{ path }] = await sql.unsafe(`SELECT string_agg(DISTINCT quote_ident(nspname), ', ') AS path
      FROM pg_namespace WHERE nspname = 'public' OR oid IN (SELECT extnamespace FROM pg_extension)`);
    await sql.unsafe(`SET search_path = pg_catalog, ${path}, pg_temp`);
    // What the peer is told of must be on the disk, whatever the application is content with.
    await sql.unsafe(`SELECT set_config('synchronous_commit', 'local', false)
      WHERE current_setting('synchronous_commit') = 'off'`);
    const [{ roident }] = await sql.unsafe(
      `SELECT roident::text FROM pg_replication_origin WHERE roname = '${originName}'`,
    );
    this.peerOrigin = roident;
    if (this.deps.rehearsal) await prepareRehearsal(sql);
    await this.deps.own()?.verdictsRolledBack();
  }

  /**
   * Applies a batch; resolves when it is committed, or, for a piece of a transaction, written. `waits`, asked right before
   * the commit, tells if that waits for the disk: one that does puts there all before it. Resolves to what it answered.
   */
  async apply(batch: Batch, waits: () => boolean): Promise<boolean> {
    await this.write(batch);
    const { committedAt } = batch;
    if (committedAt === null) return true;
    const flushes = waits();
    await this.commit(batch.position, batch.seen, committedAt, flushes);
    while (await this.outcomes.contradicted()) {
      await this.begin();
      await this.outcomes.flush(true);
      await this.commit(batch.position, batch.seen, committedAt);
    }
    return flushes;
  }

  /** Does all that `apply` does but commit: every batch goes into one transaction, which `rollBack` ends. */
  async rehearse(batch: Batch): Promise<void> {
    await this.write(batch);
    if (!batch.commits) return;
    this.deps.own()?.verdictsCommitted();
    // As before a commit.
    await this.relations.emptyStages(stagedRows.after);
  }

  /** Nothing of what was rehearsed remains. */
  async rollBack(): Promise<void> {
    await this.deps.sql.unsafe("ROLLBACK");
    this.open = false;
  }

  private async write(batch: Batch): Promise<void> {
    await this.plan(batch.ops);
    if (batch.ops.length > 0) {
      await this.relations.emptyStages(stagedRows.within);
      const begin = this.open ? "" : "BEGIN; ";
      this.open = true;
      await this.writer.write(batch.ops, begin, batch.commits && !this.deps.rehearsal);
    }
    if (batch.commits && this.open) await this.writer.settle(batch.seen);
  }

  /**
   * Records progress that no data came with, and waits for the disk; `idle`: the peer does not answer it with progress in
   * turn. Never in the midst of a transaction: what is written of it would be committed.
   */
  async recordProgress(position: Lsn, seen: Lsn, idle: boolean): Promise<void> {
    if (this.open) throw new Error("progress recorded in the midst of a transaction");
    await this.begin();
    if (idle) await this.deps.sql.unsafe(`SELECT pg_logical_emit_message(true, '${idlePrefix}', '')`);
    await this.commit(position, seen, null);
  }

  private async begin(): Promise<void> {
    if (!this.open) await this.deps.sql.unsafe("BEGIN");
    this.open = true;
  }

  private async commit(position: Lsn, seen: Lsn, time: bigint | null, flushes = true): Promise<void> {
    await this.begin();
    await this.relations.emptyStages(stagedRows.after);
    const at = time === null ? "now()" : timestampLiteral(time);
    await this.deps.sql.unsafe(
      `${flushes ? "" : "SET LOCAL synchronous_commit = off;"}
       SELECT pg_replication_origin_xact_setup('${formatLsn(position)}', ${at});
       UPDATE ha.progress SET applied_lsn = '${formatLsn(position)}',
         peer_seen = greatest(peer_seen, '${formatLsn(seen)}'), updated_at = clock_timestamp();
       COMMIT`,
    ).simple();
    this.open = false;
    this.deps.own()?.verdictsCommitted();
  }

  /** Sees to it that every relation of the batch is planned. */
  private async plan(ops: readonly Op[]): Promise<void> {
    const relations = new Set<Relation>();
    for (const { relation, truncated } of ops) {
      if (relation) relations.add(relation);
      else for (const each of truncated) relations.add(each);
    }
    const fresh = [...relations].filter((relation) => !this.relations.has(relation));
    for (const relation of fresh) await this.relations.load(relation, this.deps.inbox.types);
    if (fresh.length > 0) await this.relations.retire(relations);
  }
}
