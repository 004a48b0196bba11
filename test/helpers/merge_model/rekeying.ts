// At the primary of the model: two rows of one key in an append-only table, as in agent/apply/rekeying.ts.
import { resolve, type Versions } from "../../../agent/merge/resolve.ts";
import type { Batch } from "./batch.ts";
import { nameOf, type Row, type RowChange, sameImage, tableOf, type Version } from "./values.ts";

export function rekey(batch: Batch, change: RowChange, here: Row, versions: Versions): readonly string[] {
  const { node, ledger } = batch;
  const { newName, version } = change;
  if (sameImage(here.version.image, version.image)) return [];
  const { winner } = resolve("insert_exists", node.rules.policy, versions);
  const [stays, later] = winner === "primary" ? [here.version, version] : [version, here.version];
  const moved = moveTo(later, `new${node.nextKey}`);
  const blockers = [moved, stays].flatMap(({ name, image }) => node.blockers(name, image!, newName));
  if (blockers.length > 0) return blockers;
  ledger.judge("insert_exists", here.version, version);
  if (node.rules.unique && moved.image!.u !== null && moved.image!.u === stays.image!.u) {
    // No key can help here.
    ledger.log("cannot_apply", "primary", here.version, version);
    batch.owe(newName, true);
    return [];
  }
  ledger.log("insert_exists", "both", here.version, version);
  if (winner === "secondary") batch.put(newName, version);
  batch.owe(newName, winner === "primary");
  node.nextKey++;
  batch.put(moved.name, moved);
  batch.owe(moved.name, true);
  return [];
}

function moveTo(version: Version, key: string): Version {
  const name = nameOf(tableOf(version.name), key);
  return { ...version, id: -1, name, image: { ...version.image, k: key }, parents: [version], by: "merge" };
}
