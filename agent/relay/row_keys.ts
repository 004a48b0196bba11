// The primary keys of this node's tables, for naming rows of tables whose stream does not tell the key (REPLICA IDENTITY
// FULL). Read when a session of the slot begins; a table that is not there even then counts as one without a key.
import type { KeysOf, UnknownKey } from "./filter.ts";

/** Primary key columns by `schema\0table`; empty for a table without one. */
export type KeyCatalog = ReadonlyMap<string, readonly string[]>;

export class RowKeys {
  private keys: KeyCatalog = new Map();
  /** Tables that were asked for in vain: dropped since, mostly. After a refresh they are waited for no longer. */
  private readonly missed = new Set<string>();

  constructor(private readonly read: () => Promise<KeyCatalog>) {}

  async refresh(): Promise<void> {
    this.keys = await this.read();
    for (const table of this.missed) if (this.keys.has(table)) this.missed.delete(table);
  }

  /** That table's key has to be there at the next refresh. */
  miss({ schema, table }: UnknownKey): void {
    this.missed.add(`${schema}\0${table}`);
  }

  readonly of: KeysOf = (schema, table) => {
    const name = `${schema}\0${table}`;
    const found = this.keys.get(name);
    if (found) return found.length > 0 ? found : null;
    return this.missed.has(name) ? null : undefined;
  };
}
