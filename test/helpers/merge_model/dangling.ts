// Before a batch of the model commits: children whose parent is gone by the merge, as in agent/apply/touched.ts. The primary
// decides by policy; the secondary puts a parent back that its own pending children need, and asks.
import type { Batch } from "./batch.ts";
import { alive, type Row, type Version } from "./values.ts";

interface Dangling {
  readonly name: string;
  readonly row: Row;
  readonly parent: string;
}

export function settleDangling(batch: Batch): void {
  if (!batch.node.rules.references) return;
  for (const dangling of find(batch)) {
    // Another child may have brought it back.
    if (batch.row(dangling.parent)) continue;
    if (batch.role === "primary") decide(batch, dangling);
    else keepParent(batch, dangling);
  }
}

/** Among the rows that the batch has written, and the children of those that it took away. */
function find(batch: Batch): Dangling[] {
  const touched = new Set(batch.written);
  for (const name of batch.written) for (const child of batch.node.childrenOf(name)) touched.add(child);
  return [...touched].flatMap((name) => {
    const row = batch.row(name);
    const parent = row && batch.node.missingParent(row.version.image!);
    return parent ? [{ name, row, parent }] : [];
  });
}

function decide(batch: Batch, { name, row, parent }: Dangling): void {
  const { node, ledger } = batch;
  const { dangling } = node.rules.policy;
  const gone = node.rows.get(parent);
  const back = dangling === "restore_parent" && putBack(batch, parent, parentOf(batch, parent));
  // The child in the primary's place: either it or the end of its parent is overruled.
  ledger.log("foreign_key_dangling", back ? "primary" : "secondary", row.version, gone?.version ?? row.version);
  if (back) return;
  batch.put(name, { ...row.version, id: -1, image: null, parents: [row.version], by: "merge" });
  batch.owe(name, false);
}

/** The parent as the batch found it, or as the peer has it now: a copy, whose later changes may be on their way. */
function parentOf(batch: Batch, parent: string): Version | null {
  const fetched = alive(batch.peer.rows.get(parent));
  return batch.gone.get(parent) ?? (fetched && { ...fetched, id: -1, by: "merge", parents: [] });
}

/** False if there is no such row, or its table does not take it. */
function putBack(batch: Batch, name: string, version: Version | null): boolean {
  if (version === null || batch.node.blockers(name, version.image!, name).length > 0) return false;
  const row = batch.node.rows.get(name);
  // At the secondary it only stays until the primary's word comes: the delete has not been seen.
  const parents = row && batch.role === "primary" ? [...version.parents, row.version] : version.parents;
  batch.put(name, { ...version, id: -1, by: "merge", parents });
  // It is as the secondary had it: what is built upon it there is no conflict.
  batch.owe(name, !batch.keeps("no renewal of parents"));
  batch.ask(name);
  return true;
}

/** The primary will have to decide about an own row that needs this parent; it may want it back. */
function keepParent(batch: Batch, { row, parent }: Dangling): void {
  const { dangling } = batch.node.rules.policy;
  if (dangling === "restore_parent" && batch.isPending(row)) putBack(batch, parent, batch.gone.get(parent) ?? null);
}
