// What was written where, by whom, and upon what, so that it can be proved that no version got lost: each stands in its
// table or in an image of the conflict log, or somebody who saw it has written or deleted upon it.
// Knows nothing of policies; values must be unique to their write.
import type { Sql } from "../../agent/postgres/connect.ts";
import type { Role } from "./pair_node.ts";

interface Version {
  readonly who: Role;
  readonly table: string;
  readonly place: string;
  readonly value: string;
  /** The value that its writer found. */
  readonly upon: string | null;
}

export class Ledger {
  /** By table and value. */
  readonly #versions = new Map<string, Version>();
  /** What each side wrote last to each place. */
  readonly #last = new Map<string, string>();
  readonly #ended = new Set<string>();

  /**
   * `place`: a row's key, or a column of it. `upon`: the value that the writer found there; left out, it is what the same
   * side wrote there last.
   */
  wrote(who: Role, table: string, place: string, value: string, upon?: string | null): void {
    const at = `${who} ${table} ${place}`;
    const before = upon === undefined ? this.#last.get(at) ?? null : upon;
    this.#versions.set(`${table} ${value}`, { who, table, place, value, upon: before });
    this.#last.set(at, value);
  }

  /** Deleted, or perhaps written, by somebody who saw it: it need not be found any more. */
  ended(who: Role, table: string, place: string, upon?: string | null): void {
    const at = `${who} ${table} ${place}`;
    const before = upon === undefined ? this.#last.get(at) : upon;
    this.#last.delete(at);
    if (before) this.#ended.add(`${table} ${before}`);
  }

  get size(): number {
    return this.#versions.size;
  }

  /** Both sides have seen everything, and nothing was lost: what comes follows upon it. */
  clear(): void {
    this.#versions.clear();
    this.#last.clear();
    this.#ended.clear();
  }

  /** What was written, stands nowhere, is in no image of the log, and nobody who saw it has followed upon it. */
  async lost(sql: Sql): Promise<string[]> {
    const found = new Set<string>();
    for (const table of new Set([...this.#versions.values()].map((each) => each.table))) {
      const rows = await sql.unsafe<{ value: string }[]>(
        `SELECT e.value FROM ${table} t, jsonb_each_text(to_jsonb(t)) e WHERE e.value IS NOT NULL
         UNION SELECT e.value FROM ha.conflict c, unnest(ARRAY[c.primary_row, c.secondary_row]) image(columns),
           jsonb_each_text(image.columns) e
           WHERE quote_ident(c.schema_name) || '.' || quote_ident(c.table_name) = $1 AND e.value IS NOT NULL`,
        [table],
      );
      for (const { value } of rows) this.#follow(`${table} ${value}`, found);
    }
    for (const each of this.#ended) this.#follow(each, found);
    return [...this.#versions].filter(([id]) => !found.has(id)).map(([, { who, table, place, value }]) =>
      `${value}, which the ${who} wrote to ${place} of ${table}`
    );
  }

  /**
   * Entries about rows of these tables that call two versions of one row concurrent, one of which was written upon the
   * other. Not to be asked of tables with unique or foreign keys: there the primary may decide for a version that all have
   * seen, and what has not seen the decision is a conflict.
   */
  async falseConflicts(sql: Sql, tables: readonly string[], column: string): Promise<string[]> {
    const rows = await sql.unsafe<{ table: string; key: string; here: string; there: string }[]>(
      `SELECT schema_name || '.' || table_name AS table, row_key::text AS key,
         primary_row ->> $1 AS here, secondary_row ->> $1 AS there FROM ha.conflict
       WHERE kind IN ('update_origin_differs', 'insert_exists') AND schema_name || '.' || table_name = ANY ($2)`,
      [column, tables],
    );
    return rows.filter(({ table, here, there }) => {
      const [ofHere, ofThere] = [new Set<string>(), new Set<string>()];
      this.#follow(`${table} ${here}`, ofHere);
      this.#follow(`${table} ${there}`, ofThere);
      return here !== there && (ofHere.has(`${table} ${there}`) || ofThere.has(`${table} ${here}`));
    }).map(({ table, key, here, there }) => `${table} ${key}: ${here} and ${there} saw each other`);
  }

  #follow(id: string, found: Set<string>): void {
    for (let at: string | null = id; at !== null && !found.has(at);) {
      found.add(at);
      const version = this.#versions.get(at);
      at = version?.upon ? `${version.table} ${version.upon}` : null;
    }
  }
}
