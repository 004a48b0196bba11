// TRUNCATE as the peer did it: rows that it had not seen stay, and at the primary each of them is a conflict that the
// secondary is told of.
import { Buffer } from "node:buffer";
import { rowName } from "../change/row_key.ts";
import { resolve } from "../merge/resolve.ts";
import { errorCode } from "../postgres/connect.ts";
import { microsecondsOf } from "../postgres/times.ts";
import type { Op } from "./inbox.ts";
import { type ChangeDeps, type ChangeImages, entryOf, timeOf } from "./one_change.ts";
import { literal, type Plan } from "./plan.ts";
import { keyBytesOf, rowHere, selectRows } from "./rows.ts";

/** Rows of one conflict statement; a table may keep any number. */
const rowsAtOnce = 1000;

export async function applyTruncate(deps: ChangeDeps, op: Op): Promise<void> {
  const { sql, role } = deps;
  const plans = op.truncated.map((relation) => deps.planOf(relation));
  if (!deps.own()) {
    await sql.unsafe("SAVEPOINT ha_row");
    try {
      await sql.unsafe(`TRUNCATE ONLY ${plans.map((p) => p.target).join(", ONLY ")}`);
      return;
    } catch (error) {
      // Referenced by a table that was not truncated at the peer, where the foreign key may not exist.
      if (errorCode(error) !== "0A000") throw error;
      await sql.unsafe("ROLLBACK TO SAVEPOINT ha_row");
    }
  }
  for (const plan of plans) {
    // What the application writes here must come either before, and be looked at, or after, and have seen the batch.
    if (deps.own()) await sql.unsafe(`LOCK TABLE ONLY ${plan.target} IN SHARE ROW EXCLUSIVE MODE`);
    const unseen = deps.own() ? await unseenRows(deps, plan, op) : { writers: [], keys: [] };
    const kept = role === "primary" ? await settle(deps, plan, op, unseen) : unseen;
    await sql.unsafe(`DELETE FROM ONLY ${plan.target} t WHERE NOT ${among(plan)}`, [kept.writers, kept.keys]);
    deps.touched.emptied(plan);
  }
}

/** Rows of a table: those of some writers (xids), and those of some keys (hex of their names' bytes). */
interface Rows {
  readonly writers: readonly string[];
  readonly keys: readonly string[];
}

/** The condition that the row `t` is among Rows, given as `$1` and `$2`. */
const among = (plan: Plan): string =>
  `(t.xmin::text = ANY($1::text[]) OR encode(${keyBytesOf("t", plan.keys)}, 'hex') = ANY($2::text[]))`;

/** The rows that the TRUNCATE had not seen: own versions, and those that a verdict has renewed. */
async function unseenRows(deps: ChangeDeps, plan: Plan, op: Op): Promise<Rows> {
  const prefix = rowName(plan.schema, plan.table, "");
  const renewed = plan.wholeRow ? [] : deps.own()!.renewedRows(prefix, op.transaction.seen);
  const keys = renewed.map((name) => Buffer.from(name.slice(prefix.length), "latin1").toString("hex"));
  return { writers: await unseenWriters(deps, plan, op), keys };
}

/** The writers (xids) of rows that the TRUNCATE had not seen. */
async function unseenWriters(deps: ChangeDeps, plan: Plan, op: Op): Promise<string[]> {
  const { seen } = op.transaction;
  const own = deps.own()!;
  const rows = await deps.sql.unsafe(
    `SELECT x.xid, w.roident::text AS origin, ` +
      `${microsecondsOf("w.timestamp")} AS time ` +
      `FROM (SELECT DISTINCT xmin::text AS xid FROM ONLY ${plan.target}) x, ` +
      `LATERAL pg_xact_commit_timestamp_origin(x.xid::xid) w WHERE w.timestamp IS NOT NULL`,
  );
  return rows.filter((row) =>
    row.origin !== deps.peerOrigin() && own.isUnseen({ xid: Number(row.xid), commitTime: BigInt(row.time) }, seen)
  ).map((row) => row.xid);
}

/** Decides about these rows, by the policy of deletes; answers those that stay. */
async function settle(deps: ChangeDeps, plan: Plan, op: Op, unseen: Rows): Promise<Rows> {
  if (plan.wholeRow || unseen.writers.length + unseen.keys.length === 0) return unseen;
  const policy = deps.policyOf(plan.label);
  // Rows of one writer have one time, and so one fate; but for renewed ones, which go by their own.
  const writers = new Set<string>(), keys = new Set<string>();
  const renewed = new Set(unseen.keys);
  let after = "";
  for (;;) {
    const rows = await deps.sql.unsafe(
      `${selectRows(plan)}WHERE ${among(plan)} ${after} ORDER BY t.ctid LIMIT ${rowsAtOnce}`
        .replace("SELECT ", "SELECT t.ctid::text AS place, "),
      [unseen.writers, unseen.keys],
    );
    for (const row of rows) {
      const here = rowHere(plan, row, deps.peerOrigin());
      const key = (row.key_bytes as Buffer).toString("hex");
      const primaryTime = timeOf(here, deps.own());
      const verdict = resolve("delete_origin_differs", policy, {
        primaryTime,
        secondaryTime: op.transaction.begin.commitTime,
      });
      if (verdict.winner === "primary" && renewed.has(key)) keys.add(key);
      else if (verdict.winner === "primary") writers.add(String(here.writer.xid));
      const images: ChangeImages = { old: here.image, new: null, oldName: here.name, newName: null, missing: false };
      deps.outcomes.conflict(
        entryOf("primary", plan, op, images, {
          kind: "delete_origin_differs",
          here,
          winner: verdict.winner,
          why: `${verdict.why} (the secondary emptied the whole table)`,
          policy: verdict.policy,
          quarantined: false,
        }),
      );
      const stays = verdict.winner === "primary";
      deps.outcomes.owe(plan, here.name, here.image, stays, stays && !here.own ? primaryTime : null);
    }
    await deps.outcomes.flush(false);
    if (rows.length < rowsAtOnce) return { writers: [...writers], keys: [...keys] };
    after = `AND t.ctid > ${literal(rows.at(-1)!.place)}::tid`;
  }
}
