// Rows whose parent is gone, by a foreign key that the applier's session does not enforce: looked for among the rows that
// a batch has touched. Finds and locks them, and holds the parents that are there; decides nothing.
import type { Sql } from "../postgres/connect.ts";
import type { ForeignKey } from "../postgres/constraints.ts";
import type { Plan } from "./plan.ts";
import { imagesAs, selectDangling, type Source, stageAs, type Touch } from "./reference_sql.ts";
import { type Image, type RowHere, rowHere, type RowShape } from "./rows.ts";

/** A row that refers to one that is not there. */
export interface Dangling {
  readonly foreignKey: ForeignKey;
  readonly child: RowHere;
  readonly childShape: RowShape;
  /** The columns that the foreign key refers to, with the values that no parent has. */
  readonly parentKey: Image;
  /** Of the table that the constraint names: a partitioned parent itself, which an INSERT goes through. */
  readonly parentShape: RowShape;
  /** Where the row lies (ctid), as long as nobody writes it: rows without a key have nothing else to tell them apart. */
  readonly place: string;
}

interface Notes {
  readonly shape: RowShape;
  written: Image[];
  gone: Image[];
  emptied: boolean;
}

/** Rows that one statement answers at most; find() goes on with the others. */
const mostFound = 10_000;

export class References {
  private readonly notes = new Map<string, Notes>();

  constructor(
    private readonly sql: Sql,
    private readonly peerOrigin: () => string,
    private readonly keysOf: (schema: string, table: string) => Promise<readonly ForeignKey[]>,
    private readonly shapeOf: (schema: string, table: string) => Promise<RowShape | null>,
  ) {}

  /** A row was inserted or updated; `key`: its key, or more of it. Of a table without a key: the whole row. */
  noteWritten(shape: RowShape, key: Image): void {
    this.notesOf(shape).written.push(key);
  }

  /**
   * A row was deleted, or a version of it replaced; `image`: what it was. Without that, and where a foreign key refers to
   * other columns than the key (see refersBeyondKey), all children are looked at.
   */
  noteGone(shape: RowShape, key: Image, image: Image | null = null): void {
    this.notesOf(shape).gone.push(image ? { ...key, ...image } : key);
  }

  /** All rows of the table, or any number of them, are gone. */
  noteEmptied(shape: RowShape): void {
    this.notesOf(shape).emptied = true;
  }

  /** Forgets what was noted. */
  clear(): void {
    this.notes.clear();
  }

  /** Does a foreign key refer to columns outside of the row's key? Then an update too can leave children alone. */
  async refersBeyondKey({ schema, table, keys }: RowShape): Promise<boolean> {
    const names = keys.map((c) => c.name);
    return (await this.keysOf(schema, table)).some((foreignKey) =>
      foreignKey.asParent && foreignKey.parentColumns.some((name) => !names.includes(name))
    );
  }

  /**
   * The dangling rows among what was noted since the last call, locked FOR UPDATE; a row once for each foreign key. To be
   * called until it finds none: what is removed or put back because of it is to be noted as well, and not all are found at
   * once. So a row found, if it has a key, is to dangle no longer when it is called again.
   */
  async find(): Promise<Dangling[]> {
    const all = [...this.notes];
    this.notes.clear();
    const found: Dangling[] = [];
    for (const [label, notes] of all) {
      const { shape, written, gone, emptied } = notes;
      const keys = await this.keysOf(shape.schema, shape.table);
      let more = false;
      for (const foreignKey of keys.filter((key) => key.asChild && written.length > 0)) {
        more = await this.check(found, foreignKey, shape, "written", imagesAs(shape, written), mostFound) || more;
      }
      for (const foreignKey of keys.filter((key) => key.asParent && (emptied || gone.length > 0))) {
        const source = emptied ? null : imagesAs(shape, gone);
        more = await this.check(found, foreignKey, shape, "gone", source, mostFound) || more;
      }
      // There are more of them than one statement answers.
      if (more) this.notes.set(label, notes);
    }
    return found;
  }

  /**
   * The dangling rows among those that plan.stage names (ha_n < 0): their key columns, of a table without a key all
   * columns. Of a great many children of rows gone, find() answers those that are left.
   */
  async findInStage(plan: Plan, touch: Touch): Promise<Dangling[]> {
    const found: Dangling[] = [];
    const source = stageAs(plan);
    for (const foreignKey of await this.keysOf(plan.schema, plan.table)) {
      if (touch === "written" ? !foreignKey.asChild : !foreignKey.asParent) continue;
      // Of rows written there are no more than are staged.
      const most = touch === "written" ? null : mostFound;
      if (await this.check(found, foreignKey, plan, touch, source, most)) this.noteEmptied(plan);
    }
    return found;
  }

  private notesOf(shape: RowShape): Notes {
    const label = `${shape.schema}\0${shape.table}`;
    const known = this.notes.get(label);
    if (known) return known;
    const notes: Notes = { shape, written: [], gone: [], emptied: false };
    this.notes.set(label, notes);
    return notes;
  }

  /** Adds the rows found; answers whether there may be more. Without a source every child is looked at. */
  private async check(
    found: Dangling[],
    foreignKey: ForeignKey,
    touched: RowShape,
    touch: Touch,
    source: Source | null,
    most: number | null,
  ): Promise<boolean> {
    const { name, child, parent } = foreignKey;
    const childShape = await this.shapeOf(child.schema, child.table);
    const parentShape = await this.shapeOf(parent.schema, parent.table);
    if (!childShape || !parentShape) return false;
    const shapes = { child: childShape, parent: parentShape, touched };
    // Rows without a key cannot all be removed one by one, so that the next ones are found.
    const limit = childShape.wholeRow ? null : most;
    const { text, parameters } = selectDangling(foreignKey, shapes, touch, source, limit);
    const rows = await this.sql.unsafe(text, parameters, { prepare: true });
    const same = (one: Dangling) => one.foreignKey.name === name && one.childShape.target === childShape.target;
    const known = new Set(found.filter(same).map((one) => one.place));
    for (const row of rows) {
      if (known.has(row.place)) continue;
      const child = rowHere(childShape, row, this.peerOrigin());
      found.push({ foreignKey, child, childShape, parentKey: row.parent_key, parentShape, place: row.place });
    }
    return rows.length === limit;
  }
}
