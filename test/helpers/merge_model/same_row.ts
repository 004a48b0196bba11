// At the primary of the model: a row that both sides wrote, as in agent/apply/same_row.ts.
import type { ConflictKind } from "../../../agent/merge/classify.ts";
import { mergeColumns } from "../../../agent/merge/columns.ts";
import { resolve, type Versions } from "../../../agent/merge/resolve.ts";
import type { Batch } from "./batch.ts";
import { endTombstone, mixed, none, put, wholeImage } from "./changes.ts";
import { rekey } from "./rekeying.ts";
import type { Row, RowChange, Version } from "./values.ts";

/** Answers the rows that keep the outcome out; then nothing has been done. */
export function settleRow(batch: Batch, change: RowChange, kind: ConflictKind, here: Row | null): readonly string[] {
  const { policy } = batch.node.rules;
  const { oldName: name, incoming, version, after } = change;
  const versions = versionsOf(batch, change, kind, here);
  if (kind === "insert_exists" && policy.rows === "append_only" && here) return rekey(batch, change, here, versions);
  if (kind === "update_origin_differs" && policy.rows === "merge_columns" && here && change.before) {
    return merge(batch, change, here, versions);
  }
  const { winner } = resolve(kind, policy, versions);
  const judged = batch.node.rows.get(name)?.version;
  const image = after && wholeImage(batch, name, after);
  // Without its large values, which are gone at the secondary too, it cannot be written.
  const kept = winner === "secondary" && incoming !== "delete" && image === null ? "primary" : winner;
  if (kept === "secondary") {
    const blockers = put(batch, change, here, image);
    if (blockers.length > 0) return blockers;
  }
  batch.ledger.judge(kind, judged, version);
  batch.ledger.log(kind, kept, judged ?? null, version);
  judgeTime(batch, kind, here, version, winner);
  batch.owe(name, kept === "primary", kept === "primary" ? timeKept(batch, name, here) : null);
  return none;
}

/** The time of the primary's part of a row that stays as it is. */
function timeKept(batch: Batch, name: string, here: Row | null): bigint | null {
  return here && !here.own ? batch.node.history.renewals.timeOf(name) : null;
}

function versionsOf(batch: Batch, { oldName, version }: RowChange, kind: ConflictKind, here: Row | null): Versions {
  const { history, rules } = batch.node;
  const secondaryTime = version.time;
  if (here) {
    const renewed = history.renewals.timeOf(oldName);
    const mine = batch.keeps("time of the own version") ? here.own : false;
    return { primaryTime: mine ? here.time : renewed ?? here.time, secondaryTime };
  }
  const asked = kind === "update_deleted" && rules.policy.deletes === "last_update_wins";
  return { primaryTime: asked ? batch.deletedUnseen(oldName) : null, secondaryTime };
}

function merge(batch: Batch, change: RowChange, here: Row, versions: Versions): readonly string[] {
  const { version, oldName: name } = change;
  const { image, kept } = mergeColumns(change.before!, change.after!, here.version.image!, versions);
  if (kept !== "primary") {
    const blockers = batch.node.blockers(name, image, name);
    if (blockers.length > 0) return blockers;
    endTombstone(batch, name);
    batch.put(name, kept === "secondary" ? version : mixed(change, here, image, versions.primaryTime!));
  }
  batch.ledger.judge("update_origin_differs", here.version, version);
  batch.ledger.log("update_origin_differs", kept, here.version, version);
  const renews = kept === "primary" || (kept === "both" && batch.keeps("renewal of merged rows"));
  batch.owe(name, renews, kept === "both" ? versions.primaryTime : timeKept(batch, name, here));
  return none;
}

/** With last_update_wins the later of the two commits wins, the primary's where both are the same. */
function judgeTime(batch: Batch, kind: ConflictKind, here: Row | null, version: Version, winner: string): void {
  const { policy } = batch.node.rules;
  if (!here || kind !== "update_origin_differs" || policy.rows !== "last_update_wins") return;
  if (here.version.by === "secondary") return;
  const later = version.time > here.version.time ? "secondary" : "primary";
  if (later !== winner) batch.ledger.faults.push(`the ${winner} wins, the ${later} wrote last`);
}
