// The constraints of the local tables, read when first asked for and again after a while: nothing tells the applier of an
// index or a foreign key that was made here. Never older than its limit.
import { type ForeignKey, readForeignKeys, readUniqueRules, type UniqueRule } from "../postgres/constraints.ts";
import type { Sql } from "../postgres/connect.ts";

const maxAgeMs = 5000;

interface Known {
  readonly at: number;
  readonly rules: readonly UniqueRule[];
  readonly foreignKeys: readonly ForeignKey[];
}

export class KnownConstraints {
  private readonly tables = new Map<string, Known>();

  constructor(private readonly sql: Sql) {}

  async of(schema: string, table: string): Promise<Known> {
    const label = `${schema}\0${table}`;
    const known = this.tables.get(label);
    if (known && performance.now() - known.at < maxAgeMs) return known;
    const at = performance.now();
    const rules = await readUniqueRules(this.sql, schema, table);
    const foreignKeys = await readForeignKeys(this.sql, schema, table);
    const fresh = { at, rules, foreignKeys };
    this.tables.set(label, fresh);
    return fresh;
  }

  /** Do foreign keys refer to the table? */
  async isReferred(schema: string, table: string): Promise<boolean> {
    return (await this.of(schema, table)).foreignKeys.some(({ asParent }) => asParent);
  }
}
