// TRUNCATE of the peer's at a node of the model: rows that it had not seen stay, or are conflicts, as in
// agent/apply/truncation.ts.
import { resolve } from "../../../agent/merge/resolve.ts";
import type { Batch } from "./batch.ts";
import { bothDeleted, tableOf, type Truncation, type Version } from "./values.ts";

export function applyTruncation(batch: Batch, { table, time, left }: Truncation): void {
  const { node, ledger } = batch;
  for (const [name, tombstone] of left) {
    const row = node.rows.get(name);
    // Both have deleted it.
    if (!row) ledger.ended.push(tombstone);
    else if (!row.version.image) node.rows.set(name, { ...row, version: bothDeleted(tombstone, row.version) });
  }
  for (const [name, row] of node.rows) {
    const { version } = row;
    if (tableOf(name) !== table || !version.image) continue;
    const tombstone: Version = left.get(name) ?? { id: -1, name, time, image: null, parents: [], by: "merge" };
    const unseen = batch.keeps("renewal of truncated rows") ? batch.isUnseen(name, row) : batch.isPending(row);
    if (!unseen) {
      batch.put(name, tombstone);
      continue;
    }
    if (batch.role === "secondary") continue;
    const renewed = node.history.renewals.timeOf(name);
    const primaryTime = row.own ? row.time : renewed ?? row.time;
    const { winner } = resolve("delete_origin_differs", node.rules.policy, { primaryTime, secondaryTime: time });
    ledger.judge("delete_origin_differs", version, tombstone);
    ledger.log("delete_origin_differs", winner, version, tombstone);
    if (winner === "secondary") batch.put(name, tombstone);
    batch.owe(name, winner === "primary", winner === "primary" && !row.own ? renewed : null);
  }
}
