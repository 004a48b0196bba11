// Which [[table]] of agent.toml counts for a table, and what policy it comes to. Pure lookups, cheap enough for every
// change; what the database enforces of policies is in postgres/objects.ts.
import type { Config, TableEntry } from "./config.ts";
import type { RowPolicy, TablePolicy } from "./merge/policy.ts";
import { namesTable } from "./table_pattern.ts";

/** A table of the user's, as the catalog has it. */
export interface TableFacts {
  readonly schema: string;
  readonly name: string;
  /** `schema.name`, as patterns name it. */
  readonly label: string;
  /** The label of the partitioned table that it is a part of, at the top; null for what is no partition. */
  readonly root: string | null;
  /** Labels of the tables right above it: what it is a partition of, or inherits from. */
  readonly parents: readonly string[];
  readonly columns: readonly string[];
  /** Empty without one, and for a deferrable one. */
  readonly primaryKey: readonly string[];
  /**
   * Virtual generated columns (from PostgreSQL 18 on): with one, an UPDATE is refused where the replica identity is FULL.
   */
  readonly virtualColumns?: readonly string[];
  /** All generated columns, stored ones too. */
  readonly generatedColumns?: readonly string[];
}

/** What is known of a table by its label; undefined for one that the catalog did not have yet. */
export type TableOf = (label: string) => Pick<TableFacts, "root" | "primaryKey" | "virtualColumns"> | undefined;

const unknown: TableOf = () => undefined;

/** Policies that need a primary key. */
export const needsKey = (policy: RowPolicy): boolean => policy === "merge_columns" || policy === "append_only";

/** Can the table have this policy? */
export const canBe = (
  policy: RowPolicy,
  { primaryKey, virtualColumns = [] }: NonNullable<ReturnType<TableOf>>,
): boolean =>
  !(needsKey(policy) && primaryKey.length === 0) && !(policy === "merge_columns" && virtualColumns.length > 0);

/** Does the pattern name this table, or the partitioned table that it is a part of? */
export function matches(match: string, label: string, root: string | null | undefined): boolean {
  return namesTable(match, label) || (!!root && namesTable(match, root));
}

/** The first [[table]] that matches; undefined where only [merge] counts. */
export function entryFor(config: Config, tableOf: TableOf = unknown): (label: string) => TableEntry | undefined {
  return remembered(tableOf, (label, table) => config.table.find(({ match }) => matches(match, label, table?.root)));
}

/** The policy of `schema.table`, whole: of the first [[table]] that matches; what that leaves out is of [merge]. */
export function policyFor(config: Config, tableOf: TableOf = unknown): (label: string) => TablePolicy {
  const entryOf = entryFor(config, tableOf);
  return remembered(tableOf, (label, table) => {
    const policy = policyOfEntry(config, entryOf(label));
    // A default may meet a table that it cannot be for; so may a pattern, by a table made since it was checked.
    return table && !canBe(policy.rows, table) ? { ...policy, rows: "last_update_wins" } : policy;
  });
}

/** What an entry comes to with what it leaves out; without one, what [merge] says. */
export function policyOfEntry({ merge }: Config, entry: TableEntry | undefined): TablePolicy {
  return {
    rows: entry?.policy ?? merge.default,
    deletes: entry?.deletes ?? merge.deletes,
    unique: entry?.unique ?? merge.unique,
    dangling: entry?.dangling ?? merge.dangling,
  };
}

/** The columns of `schema.table` whose values are not to be shown: those of the first [[table]] that matches. */
export function secretOf(config: Config, tableOf: TableOf = unknown): (label: string) => readonly string[] {
  const entryOf = entryFor(config, tableOf);
  return (label) => entryOf(label)?.secret ?? [];
}

/** The policy of rows of each table: what the database is told. */
export function rowsPolicies(config: Config, tables: readonly TableFacts[]) {
  const byLabel = new Map(tables.map((table) => [table.label, table]));
  const policyOf = policyFor(config, (label) => byLabel.get(label));
  return tables.map(({ schema, name, label }) => ({ schema, table: name, rows: policyOf(label).rows }));
}

/** Finds once for each label, and again when what is known of the table has changed. */
function remembered<T>(tableOf: TableOf, find: (label: string, table: ReturnType<TableOf>) => T) {
  const known = new Map<string, { table: ReturnType<TableOf>; found: T }>();
  return (label: string): T => {
    const table = tableOf(label);
    const before = known.get(label);
    if (before && before.table === table) return before.found;
    const found = find(label, table);
    known.set(label, { table, found });
    return found;
  };
}
