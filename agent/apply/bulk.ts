// The fast path: folded sets of rows go through COPY BINARY, into the table itself or through a staging table and one
// statement. Fails whole when a single row does not do what it should; the ordered path then finds out which.
import type { Buffer } from "node:buffer";
import { once } from "node:events";
import { finished } from "node:stream/promises";
import type { Sql } from "../postgres/connect.ts";
import type { TypeDescription } from "../postgres/catalog.ts";
import { CopyRows, type Row } from "./copy_rows.ts";
import type { RelationWork } from "./fold.ts";
import type { ColumnPlan, Plan } from "./plan.ts";

/**
 * For rows that this node may be writing too: they are written only if their version is older than every own transaction
 * that the peer had not seen, or if they were looked at and locked before.
 */
export interface Lookout {
  /** See OwnChanges.horizon. */
  readonly horizon: number;
  readonly isLocked: (plan: Plan, row: Row) => boolean;
}

/** A statement of the fast path touched another number of rows than the peer's did. */
export class RowsDiffer extends Error {
  override name = "RowsDiffer";
}

export class BulkWriter {
  private run = 0;

  constructor(private readonly sql: Sql, private readonly types: () => ReadonlyMap<number, TypeDescription>) {}

  /** Applies the sets of one relation. Throws RowsDiffer or the server's error; the caller rolls back. */
  async write(work: RelationWork, lookout: Lookout | null = null): Promise<void> {
    const { plan } = work;
    if (work.deletes.length > 0) {
      await this.stageAndRun(
        plan,
        plan.keys,
        work.deletes,
        (run) => `DELETE FROM ONLY ${plan.target} t USING ${plan.stage} s WHERE ${run} AND ${matchKeys(plan)}`,
        lookout,
      );
    }
    for (const [mask, rows] of work.updates) {
      const left = new Set(mask ? mask.split(",").map(Number) : []);
      const set = plan.columns.filter((c) => c.settable && !left.has(c.position));
      if (set.length === 0) continue;
      const sent = plan.columns.filter((c) => c.key || set.includes(c));
      await this.stageAndRun(
        plan,
        sent,
        rows,
        (run) =>
          `UPDATE ONLY ${plan.target} t SET ${set.map((c) => `${c.quoted} = ${staged(c)}`).join(", ")} ` +
          `FROM ${plan.stage} s WHERE ${run} AND ${matchKeys(plan)}`,
        lookout,
      );
    }
    if (work.inserts.length > 0) await this.insert(plan, work.inserts);
  }

  private async insert(plan: Plan, rows: Row[]): Promise<void> {
    if (plan.direct) {
      // A table may have no column at all; an empty list is a syntax error.
      const list = plan.columns.length ? ` (${plan.columns.map((c) => c.quoted).join(", ")})` : "";
      await this.copy(plan.target + list, rows, (out, row) => {
        out.startRow(plan.columns.length);
        out.addColumns(row, plan.columns);
      });
      return;
    }
    const names = plan.columns.map((c) => c.quoted).join(", ");
    await this.stageAndRun(
      plan,
      plan.columns,
      rows,
      (run) =>
        `INSERT INTO ${plan.target} (${names}) OVERRIDING SYSTEM VALUE ` +
        `SELECT ${plan.columns.map(staged).join(", ")} FROM ${plan.stage} s WHERE ${run}`,
      null,
    );
  }

  private async stageAndRun(
    plan: Plan,
    columns: readonly ColumnPlan[],
    rows: Row[],
    statement: (run: string) => string,
    lookout: Lookout | null,
  ): Promise<void> {
    const run = ++this.run;
    plan.filled.rows += rows.length;
    const names = ["ha_n", "ha_old", ...columns.map((c) => c.quoted)].join(", ");
    await this.copy(`${plan.stage} (${names})`, rows, (out, row) => {
      out.startRow(columns.length + 2);
      out.addInt4(run);
      out.addBoolean(lookout?.isLocked(plan, row) ?? false);
      out.addColumns(row, columns);
    });
    // The run's number is a literal of its own statement text would fill the statement cache; a parameter does not.
    const which = lookout ? "s.ha_n = $1 AND (s.ha_old OR age(t.xmin) > age($2::text::xid))" : "s.ha_n = $1";
    const values = lookout ? [run, String(lookout.horizon)] : [run];
    const result = await this.sql.unsafe(statement(which), values, { prepare: true });
    if (result.count !== rows.length) {
      throw new RowsDiffer(`${plan.label}: ${result.count} rows instead of ${rows.length}`);
    }
  }

  private copy(into: string, rows: Row[], add: (out: CopyRows, row: Row) => void): Promise<void> {
    return copyIn(this.sql, `COPY ${into} FROM STDIN (FORMAT binary)`, this.types(), async (out, room) => {
      for (const row of rows) {
        add(out, row);
        const waiting = room();
        if (waiting) await waiting;
      }
    });
  }
}

/** Bytes of a COPY that may wait for the server. More would only be held twice: as changes and as rows. */
const maxWaitingBytes = 1024 * 1024;

/**
 * Runs a COPY ... FROM STDIN with the rows that `fill` adds. `room` is null while the server keeps up; else it is to be
 * awaited before more rows are added.
 */
export async function copyIn(
  sql: Sql,
  statement: string,
  types: ReadonlyMap<number, TypeDescription>,
  fill: (out: CopyRows, room: () => Promise<unknown> | null) => void | Promise<void>,
): Promise<void> {
  const stream = await sql.unsafe(statement).writable();
  const ending = finished(stream);
  ending.catch(() => undefined);
  let full = false;
  const out = new CopyRows(types, (chunk: Buffer, done) => {
    stream.write(chunk, (error) => error || done());
    full = stream.writableLength > maxWaitingBytes;
  });
  const drained = () => {
    full = false;
    return Promise.race([once(stream, "drain"), ending]);
  };
  try {
    await fill(out, () => full ? drained() : null);
    out.end();
  } catch (error) {
    stream.destroy(error as Error);
    throw error;
  }
  if (stream.writableNeedDrain && !stream.writableEnded) await drained();
  stream.end();
  await ending;
}

export const staged = (c: ColumnPlan): string => c.binary ? `s.${c.quoted}` : `s.${c.quoted}::${c.typeName}`;
export const matchKeys = (plan: Plan): string => plan.keys.map((c) => `t.${c.quoted} = ${staged(c)}`).join(" AND ");
