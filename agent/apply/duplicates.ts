// At the primary, before the transaction commits: rows that stand beside each other against a DEFERRABLE unique constraint,
// which the server does not hold the applier to. By policy one of the two goes, is logged whole, and both are told of.
import type { Incoming } from "../merge/classify.ts";
import type { TablePolicy } from "../merge/policy.ts";
import { resolve } from "../merge/resolve.ts";
import type { UniqueRule } from "../postgres/constraints.ts";
import type { Sql } from "../postgres/connect.ts";
import type { Outcomes } from "./outcomes.ts";
import { deleteRow, type Image, keyOfImage, lockRow, type RowHere, type RowShape } from "./rows.ts";
import type { Touched } from "./touched.ts";
import { findDuplicates } from "./unique_sets.ts";

export interface DuplicatesDeps {
  readonly sql: Sql;
  readonly peerOrigin: () => string;
  readonly policyOf: (label: string) => TablePolicy;
  readonly rulesOf: (shape: RowShape) => Promise<readonly UniqueRule[]>;
  readonly outcomes: Outcomes;
  readonly touched: Touched;
}

interface Written {
  readonly keys: Image[];
  /** By key: whether the row came new, and when the secondary committed what wrote it last. */
  readonly by: Map<string, { incoming: Incoming; time: bigint }>;
}

const idOf = (shape: RowShape, image: Image): string => JSON.stringify(keyOfImage(shape, image));

export class Duplicates {
  private readonly written = new Map<RowShape, Written>();

  constructor(private readonly deps: DuplicatesDeps) {}

  /** A row of a table with such a constraint was written; `time`: when the secondary committed it. */
  note(shape: RowShape, image: Image, incoming: Incoming, time: bigint): void {
    let known = this.written.get(shape);
    if (!known) this.written.set(shape, known = { keys: [], by: new Map() });
    known.keys.push(keyOfImage(shape, image));
    const id = idOf(shape, image);
    const isNew = incoming === "insert" || known.by.get(id)?.incoming === "insert";
    known.by.set(id, { incoming: isNew ? "insert" : incoming, time });
  }

  async settle(): Promise<void> {
    for (const [shape, { keys, by }] of this.written) {
      const rules = await this.deps.rulesOf(shape);
      const found = await findDuplicates(this.deps.sql, shape, rules, keys, this.deps.peerOrigin());
      for (const { row, other } of found) {
        // Who wrote the row in the way decides whose it is; of two of the secondary's the one just written goes.
        const [ours, theirs] = row.own ? [row, other] : [other, row];
        const writer = by.get(idOf(shape, theirs.image));
        const kind = writer?.incoming === "insert" ? "insert_exists" : "update_exists";
        // What was merged before was committed here with the time of what brought it.
        await this.part(shape, kind, ours, theirs, writer?.time ?? theirs.writer.commitTime);
      }
    }
    this.written.clear();
  }

  private async part(
    shape: RowShape,
    kind: "insert_exists" | "update_exists",
    ours: RowHere,
    theirs: RowHere,
    secondaryTime: bigint,
  ): Promise<void> {
    const { sql, outcomes, peerOrigin } = this.deps;
    for (const { image } of [ours, theirs]) if (!await lockRow(sql, shape, image, peerOrigin())) return;
    const times = { primaryTime: ours.writer.commitTime, secondaryTime };
    const policy = this.deps.policyOf(`${shape.schema}.${shape.table}`);
    const { winner, why, policy: by } = ours.own
      ? resolve("update_exists", policy, times)
      : { winner: "primary" as const, why: "another row that was merged before has the value", policy: policy.unique };
    const loser = winner === "primary" ? theirs : ours;
    await sql.unsafe(deleteRow(shape), [loser.image], { prepare: true });
    this.deps.touched.gone(shape, loser.image);
    outcomes.conflict({
      kind,
      schema: shape.schema,
      table: shape.table,
      key: keyOfImage(shape, loser.image),
      primaryRow: ours.image,
      secondaryRow: theirs.image,
      primaryTime: times.primaryTime,
      secondaryTime,
      primaryLsn: null,
      secondaryLsn: null,
      policy: by,
      winner,
      why,
      loggedBy: "primary",
      quarantined: true,
    });
    for (const { name, image } of [ours, theirs]) outcomes.owe(shape, name, image, winner === "primary");
  }
}
