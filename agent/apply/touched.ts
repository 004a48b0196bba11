// Which rows the open transaction has written or taken away, and before it commits: children whose parent is gone by the
// merge. The primary decides, by the policy of the child's table; the secondary puts a parent back that its own pending
// children need, and asks. Never leaves a row without its parent where it can name the row.
import { decodeChange, tag } from "../change/pgoutput.ts";
import { keyBytes } from "../change/row_key.ts";
import type { Role } from "../merge/classify.ts";
import type { TablePolicy } from "../merge/policy.ts";
import type { TypeDescription } from "../postgres/catalog.ts";
import type { Sql } from "../postgres/connect.ts";
import type { ForeignKey } from "../postgres/constraints.ts";
import { copyIn } from "./bulk.ts";
import type { Row } from "./copy_rows.ts";
import { type Dangling, References } from "./dangling.ts";
import type { Op } from "./inbox.ts";
import type { Outcomes } from "./outcomes.ts";
import type { OwnChanges } from "./own_changes.ts";
import type { Plan } from "./plan.ts";
import { isRefusal } from "./refusals.ts";
import { deleteRow, type Image, insertRow, keyOfImage, lockRow, type RowShape } from "./rows.ts";

export interface TouchedDeps {
  readonly sql: Sql;
  readonly role: Role;
  readonly own: () => OwnChanges | null;
  readonly peerOrigin: () => string;
  readonly planOf: (op: Op) => Plan;
  readonly policyOf: (label: string) => TablePolicy;
  readonly types: () => ReadonlyMap<number, TypeDescription>;
  readonly foreignKeysOf: (schema: string, table: string) => Promise<readonly ForeignKey[]>;
  readonly shapeOf: (schema: string, table: string) => Promise<RowShape | null>;
  readonly fetchRow: (row: { schema: string; table: string; key: Image }) => Promise<Image | null>;
  readonly outcomes: Outcomes;
}

const labelOf = ({ schema, table }: { schema: string; table: string }): string => `${schema}.${table}`;

export class Touched {
  private readonly references: References;
  /** Rows that were deleted while others may refer to them, by table and the values referred to. */
  private goneRows: { shape: RowShape; image: Image }[] = [];

  constructor(private readonly deps: TouchedDeps) {
    this.references = new References(deps.sql, deps.peerOrigin, deps.foreignKeysOf, deps.shapeOf);
  }

  written(shape: RowShape, image: Image): void {
    this.references.noteWritten(shape, image);
  }

  /** `image`: the row as it was, whole. */
  gone(shape: RowShape, image: Image): void {
    this.references.noteGone(shape, keyOfImage(shape, image), image);
    this.goneRows.push({ shape, image });
  }

  emptied(shape: RowShape): void {
    this.references.noteEmptied(shape);
  }

  clear(): void {
    this.references.clear();
    this.goneRows = [];
  }

  /** May a row deleted from this table have to be put back for the sake of its children? Then its image is wanted. */
  async wantsImages({ schema, table }: RowShape): Promise<boolean> {
    const keys = await this.deps.foreignKeysOf(schema, table);
    return keys.some((key) => key.asParent && this.deps.policyOf(labelOf(key.child)).dangling === "restore_parent");
  }

  /** Looks through what a piece of a batch has changed; only what seems to dangle is kept until the end. */
  async changed(ops: readonly Op[]): Promise<void> {
    const byPlan = Map.groupBy(ops.filter(({ relation }) => relation), this.deps.planOf);
    for (const [plan, own] of byPlan) {
      const keys = await this.deps.foreignKeysOf(plan.schema, plan.table);
      if (keys.some((key) => key.asChild)) await this.look(plan, "written", own.flatMap(writtenBy));
      if (!keys.some((key) => key.asParent)) continue;
      if (await this.references.refersBeyondKey(plan)) {
        if (own.some(({ message }) => message[0] !== tag.insert)) this.references.noteEmptied(plan);
      } else await this.look(plan, "gone", own.flatMap((op) => goneBy(op, plan)));
    }
  }

  private async look(plan: Plan, touch: "written" | "gone", rows: readonly Row[]): Promise<void> {
    if (rows.length === 0) return;
    const { sql } = this.deps;
    plan.filled.rows += rows.length;
    const columns = plan.wholeRow ? plan.columns : plan.keys;
    const names = ["ha_n", ...columns.map((c) => c.quoted)].join(", ");
    await copyIn(
      sql,
      `COPY ${plan.stage} (${names}) FROM STDIN (FORMAT binary)`,
      this.deps.types(),
      async (out, room) => {
        for (const row of rows) {
          out.startRow(columns.length + 1);
          out.addInt4(-1);
          out.addColumns(row, columns);
          const waiting = room();
          if (waiting) await waiting;
        }
      },
    );
    for (const { childShape, child } of await this.references.findInStage(plan, touch)) {
      this.written(childShape, child.image);
    }
    await sql.unsafe(`DELETE FROM ${plan.stage} WHERE ha_n < 0`);
  }

  /** To be called before the transaction commits. `seen`: of the last change in it. */
  async settle(seen: bigint): Promise<void> {
    if (this.deps.own() === null) return this.clear();
    const restored = new Set<string>();
    const judged = new Set<string>();
    for (;;) {
      const found = await this.references.find();
      if (found.length === 0) break;
      for (const dangling of found) {
        const id = JSON.stringify([dangling.parentShape.target, dangling.parentKey]);
        const child = JSON.stringify([dangling.childShape.target, dangling.place]);
        // By two foreign keys a child may dangle twice.
        if (restored.has(id) || judged.has(child)) continue;
        judged.add(child);
        if (this.deps.role === "secondary") {
          if (await this.keepParent(dangling, seen)) restored.add(id);
        } else if (await this.decide(dangling)) restored.add(id);
      }
      if (this.deps.role === "secondary") break;
    }
    this.clear();
  }

  /** True if the parent was put back. */
  private async decide(dangling: Dangling): Promise<boolean> {
    const { childShape, child, foreignKey } = dangling;
    const policy = this.deps.policyOf(labelOf(foreignKey.child)).dangling;
    const parent = policy === "restore_parent" ? await this.parentImage(dangling) : null;
    const back = parent !== null && await this.putBack(dangling, parent);
    if (!back && !childShape.wholeRow) {
      await this.deps.sql.unsafe(deleteRow(childShape), [child.image], { prepare: true });
      this.gone(childShape, child.image);
      this.deps.outcomes.owe(childShape, child.name, child.image, false);
    }
    const side: Role = child.own ? "primary" : "secondary";
    const other: Role = child.own ? "secondary" : "primary";
    const [primary, secondary] = child.own ? [child, null] : [null, child];
    const what = `the row that ${foreignKey.name} refers to was deleted at the ${other}`;
    this.deps.outcomes.conflict({
      kind: "foreign_key_dangling",
      schema: childShape.schema,
      table: childShape.table,
      key: keyOfImage(childShape, child.image),
      primaryRow: primary?.image ?? null,
      secondaryRow: secondary?.image ?? null,
      primaryTime: primary?.writer.commitTime ?? null,
      secondaryTime: secondary?.writer.commitTime ?? null,
      primaryLsn: null,
      secondaryLsn: null,
      policy,
      winner: back || childShape.wholeRow ? side : other,
      why: back ? `${what}: it was put back` : childShape.wholeRow ? `${what}: a row without a key stays` : what,
      loggedBy: "primary",
      quarantined: !back && !childShape.wholeRow,
    });
    return back;
  }

  private async parentImage({ parentKey, foreignKey }: Dangling): Promise<Image | null> {
    const names = Object.keys(parentKey);
    const here = this.goneRows.find(({ shape, image }) =>
      shape.schema === foreignKey.parent.schema &&
      (shape.table === foreignKey.parent.table || foreignKey.parentPartitioned) &&
      names.every((name) => image[name] === parentKey[name])
    );
    return here?.image ?? await this.deps.fetchRow({ ...foreignKey.parent, key: parentKey });
  }

  /** Inserts the parent again; false if its table does not take it. The row may go into a partition. */
  private async putBack({ parentShape }: Dangling, image: Image): Promise<boolean> {
    const { sql, outcomes } = this.deps;
    await sql.unsafe("SAVEPOINT ha_parent");
    try {
      const statement = `${insertRow(parentShape, Object.keys(image))} RETURNING ` +
        `(SELECT ARRAY[n.nspname, c.relname]::text[] FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace ` +
        `WHERE c.oid = tableoid) AS place`;
      const [{ place: [schema, table] }] = await sql.unsafe(statement, [image]);
      await sql.unsafe("RELEASE SAVEPOINT ha_parent");
      const shape = await this.deps.shapeOf(schema, table);
      const row = shape && await lockRow(sql, shape, image, this.deps.peerOrigin());
      if (shape && row) {
        this.written(shape, image);
        outcomes.owe(shape, row.name, image, false);
        outcomes.ask(shape, row.name, image);
      }
      return true;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await sql.unsafe("ROLLBACK TO SAVEPOINT ha_parent");
      return false;
    }
  }

  /** At the secondary: the primary will have to decide about an own row that needs this parent; it may want it back. */
  private async keepParent(dangling: Dangling, seen: bigint): Promise<boolean> {
    const { child, foreignKey, parentKey } = dangling;
    const own = this.deps.own()!;
    if (!child.own || !own.isUnseen(child.writer, seen)) return false;
    if (this.deps.policyOf(labelOf(foreignKey.child)).dangling !== "restore_parent") return false;
    const names = Object.keys(parentKey);
    const here = this.goneRows.find(({ image }) => names.every((name) => image[name] === parentKey[name]));
    return here !== undefined && await this.putBack(dangling, here.image);
  }
}

function writtenBy({ message }: Op): Row[] {
  const { newTuple } = decodeChange(message);
  return newTuple < 0 ? [] : [{ message, at: newTuple, base: null }];
}

/** The old key of a row that was deleted or has another key now. */
function goneBy({ message }: Op, plan: Plan): Row[] {
  const { oldTuple, newTuple } = decodeChange(message);
  if (oldTuple < 0) return [];
  const key = (at: number) => keyBytes(message, at, plan.keyPositions);
  if (newTuple >= 0 && !plan.wholeRow && key(oldTuple) === key(newTuple)) return [];
  return [{ message, at: oldTuple, base: null }];
}
