// The plans of the peer's relations, made from the local catalog when first needed and again when the peer describes a
// relation anew. Makes the staging tables. Never plans from a relation of another description than the op's own.
import type { Relation, RelationColumn, TypeName } from "../change/pgoutput.ts";
import { readRelation, readTypes, type TypeDescription } from "../postgres/catalog.ts";
import type { Sql } from "../postgres/connect.ts";
import { type Plan, planRelation } from "./plan.ts";
import type { RowShape } from "./rows.ts";

/** Nothing tells of a change made to a table here; a plan is made anew when the peer's table changes. */
const maxShapeAgeMs = 5000;

export class Relations {
  /** Local types by OID, as far as the plans need them. */
  readonly types = new Map<number, TypeDescription>();
  private plans = new Map<Relation, Plan>();
  private shapes = new Map<string, { at: number; shape: RowShape | null }>();
  private stages = 0;

  constructor(private readonly sql: Sql) {}

  /** The plan of a relation that `load` was called with. */
  plan(relation: Relation): Plan {
    const plan = this.plans.get(relation);
    if (!plan) throw new Error(`no plan for ${relation.schema}.${relation.name}`);
    return plan;
  }

  has(relation: Relation): boolean {
    return this.plans.has(relation);
  }

  /** Plans a relation and makes its staging table, outside of a transaction. Throws SchemaMismatch. */
  async load(relation: Relation, remoteTypes: ReadonlyMap<number, TypeName>): Promise<void> {
    const local = await readRelation(this.sql, relation.schema, relation.name);
    if (local) {
      const found = await readTypes(this.sql, local.columns.map((c) => c.typeOid));
      for (const [oid, type] of found) this.types.set(oid, type);
    }
    const texts = await this.typeTexts(relation.columns, remoteTypes);
    const plan = planRelation(relation, local, remoteTypes, this.types, (c) => texts.get(c) ?? "text", ++this.stages);
    // Casts give columns of the plain type: no NOT NULL of a domain, no text for types without a binary form.
    const columns = plan.columns.map((c) => `, NULL::${c.stageType} AS ${c.quoted}`).join("");
    await this.sql.unsafe(
      // Not ON COMMIT DELETE ROWS: PostgreSQL then empties every such table at every commit, however many there are.
      `CREATE TEMPORARY TABLE ${plan.stage.replace("pg_temp.", "")} AS ` +
        `SELECT 0 AS ha_n, false AS ha_old${columns} WITH NO DATA`,
    );
    this.plans.set(relation, plan);
    this.shapes.delete(plan.label);
  }

  /** Empties the staging tables that have been given so many rows. What is in them is never looked at again. */
  async emptyStages(rows: number): Promise<void> {
    const full = [...this.plans.values()].filter((plan) => plan.filled.rows >= rows);
    if (full.length === 0) return;
    await this.sql.unsafe(`TRUNCATE ${full.map((plan) => plan.stage).join(", ")}`);
    for (const plan of full) plan.filled.rows = 0;
  }

  /** Drops what was planned from older descriptions, but for those that a batch still has changes of. */
  async retire(needed: ReadonlySet<Relation>): Promise<void> {
    const known = [...this.plans.keys()];
    for (const [relation, plan] of this.plans) {
      // A later description of the same table has been planned after this one.
      const replaced = known.slice(known.indexOf(relation) + 1).some((later) =>
        later.oid === relation.oid || sameName(later, relation)
      );
      if (!replaced || needed.has(relation)) continue;
      await this.sql.unsafe(`DROP TABLE ${plan.stage}`);
      this.plans.delete(relation);
    }
  }

  /** The local table of a verdict; null where there is none. */
  async shape(schema: string, table: string): Promise<RowShape | null> {
    const label = `${schema}.${table}`;
    const known = this.shapes.get(label);
    if (known && performance.now() - known.at < maxShapeAgeMs) return known.shape;
    const local = await readRelation(this.sql, schema, table);
    const shape = local && shapeOf(local);
    this.shapes.set(label, { at: performance.now(), shape });
    return shape;
  }

  private async typeTexts(
    columns: readonly RelationColumn[],
    remoteTypes: ReadonlyMap<number, TypeName>,
  ): Promise<Map<RelationColumn, string>> {
    const texts = new Map<RelationColumn, string>();
    for (const column of columns) {
      const named = remoteTypes.get(column.typeOid);
      if (named) texts.set(column, `"${named.schema}"."${named.name}"`);
    }
    const builtIn = columns.filter((c) => !texts.has(c));
    const rows = await this.sql`
      SELECT format_type(oid, typmod) AS text
      FROM unnest(${builtIn.map((c) => String(c.typeOid))}::oid[], ${builtIn.map((c) => c.typmod)}::int[])
        WITH ORDINALITY AS u(oid, typmod, n) ORDER BY n`;
    builtIn.forEach((column, i) => texts.set(column, rows[i].text));
    return texts;
  }
}

const sameName = (a: Relation, b: Relation): boolean => a.schema === b.schema && a.name === b.name;

/** A local table as far as single rows are read and written. */
export function shapeOf(local: NonNullable<Awaited<ReturnType<typeof readRelation>>>): RowShape {
  const columns = local.columns.filter((c) => !c.generated).map((c) => ({
    name: c.name,
    typeName: c.typeName,
    send: c.send,
    settable: !local.primaryKey.includes(c.name) && c.identity !== "a",
  }));
  return {
    schema: local.schema,
    table: local.name,
    target: `"${local.schema.replaceAll('"', '""')}"."${local.name.replaceAll('"', '""')}"`,
    columns,
    keys: columns.filter((c) => local.primaryKey.includes(c.name)),
    wholeRow: local.primaryKey.length === 0,
  };
}
