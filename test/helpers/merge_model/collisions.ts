// At the primary of the model: a change of the secondary's that cannot stand beside other rows here, as in
// agent/apply/collisions.ts.
import { resolve } from "../../../agent/merge/resolve.ts";
import type { Batch } from "./batch.ts";
import { namesOf } from "./changes.ts";
import type { RowChange, Version } from "./values.ts";

/** `again`: there is room for the change now. `settled`: it has given way. */
export function settleCollision(batch: Batch, change: RowChange, blockers: readonly string[]): "again" | "settled" {
  const { node, ledger } = batch;
  const { renewals } = node.history;
  const rows = blockers.map((name) => ({ name, row: batch.row(name)! }));
  const times = rows.map(({ name, row }) => row.own ? row.time : renewals.timeOf(name) ?? row.time);
  const primaryTime = times.reduce((latest, time) => time > latest ? time : latest);
  const { winner } = resolve("update_exists", node.rules.policy, { primaryTime, secondaryTime: change.version.time });
  const kind = blockers.length > 1 ? "multiple_unique_conflicts" : "update_exists";
  const wins = winner === "secondary";
  for (const { name, row: { version } } of rows) {
    ledger.log(kind, winner, version, change.version);
    // A row that stays goes its own way to the secondary; what is not taken there is asked about.
    if (!wins) continue;
    batch.put(name, gone(version, change.version));
    batch.owe(name, false);
  }
  // Who wins has not been looked at yet as a change of its own row.
  for (const name of namesOf(change)) {
    if (!wins) stay(batch, name, primaryTime);
    else if (!batch.keeps("renewal until the winner is written")) batch.owe(name, false);
  }
  return wins ? "again" : "settled";
}

const gone = (version: Version, by: Version): Version => ({
  ...version,
  id: -1,
  time: by.time,
  image: null,
  parents: [version],
  by: "merge",
});

/** Who built upon the version that gives way has not seen the one that stays, as of the time of what made it stay. */
export function stay(batch: Batch, name: string, time: bigint): void {
  const row = batch.node.rows.get(name);
  if (!row?.version.image) {
    if (row) batch.node.rows.set(name, { ...row, version: { ...row.version, id: -1, parents: [row.version] } });
    return batch.owe(name, false);
  }
  const renewed = batch.node.history.renewals.timeOf(name);
  const part = row.own ? row.time : renewed !== null && renewed > time ? renewed : time;
  batch.node.rows.set(name, {
    ...row,
    version: { ...row.version, id: -1, time: part, by: "merge", parents: [row.version] },
  });
  batch.owe(name, true, row.own ? null : part);
}
