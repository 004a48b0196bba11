// What [[primary_only]] of agent.toml comes to for the tables that there are, and what is wrong with it. Pure; what the
// database does with it is in postgres/schema/008_primary_only.ts.
import type { Config, PrimaryOnlyEntry } from "./config.ts";
import { list, noSuchTable, type PolicyProblem } from "./policy_problems.ts";
import { matches, type TableFacts } from "./table_policies.ts";

/** `[[primary_only]] 2 (table = "vault.password")`, as the other errors about agent.toml name it. */
const placeOf = (config: Config, entry: PrimaryOnlyEntry): string =>
  `[[primary_only]] ${config.primary_only.indexOf(entry) + 1} (table = "${entry.table}")`;

/**
 * What the database is told. Only what names a table itself: that a rule holds for partitions and children as well, also
 * for those made later, is known to the database.
 */
export function primaryOnlyRules(config: Config, tables: readonly TableFacts[]) {
  return config.primary_only.flatMap((entry, at) =>
    tables.filter(({ label }) => matches(entry.table, label, null)).flatMap(({ schema, name }) =>
      [...new Set(entry.operations)].flatMap((operation) =>
        [...new Set(entry.columns ?? [""])].map((column) => ({
          ...{ schema, table: name, position: at + 1 },
          ...{ operation, column, message: entry.message },
        }))
      )
    )
  );
}

/** All problems of [[primary_only]]. Without any table in the database, names of tables are not judged. */
export function checkPrimaryOnly(config: Config, tables: readonly TableFacts[]): PolicyProblem[] {
  return config.primary_only.flatMap((entry) => {
    const own = tables.filter(({ label, root }) => matches(entry.table, label, root));
    return [
      ...twins(config, entry),
      ...own.length === 0 ? [noSuchTable(placeOf(config, entry), entry.table, tables)] : columns(config, entry, own),
    ];
  });
}

/** Two entries about the very same: one of two messages would never be seen. */
function twins(config: Config, entry: PrimaryOnlyEntry): PolicyProblem[] {
  const twin = config.primary_only.slice(0, config.primary_only.indexOf(entry)).find((other) =>
    other.table === entry.table && other.operations.some((operation) => entry.operations.includes(operation)) &&
    (other.columns === undefined || entry.columns === undefined
      ? other.columns === entry.columns
      : other.columns.some((column) => entry.columns?.includes(column)))
  );
  if (!twin) return [];
  return [{
    severity: "error",
    message: `${placeOf(config, entry)}: [[primary_only]] ${config.primary_only.indexOf(twin) + 1} is about the same`,
    remedy: "make one entry of the two",
  }];
}

function columns(config: Config, entry: PrimaryOnlyEntry, own: readonly TableFacts[]): PolicyProblem[] {
  const wanted = [...new Set(entry.columns)];
  const missing = wanted.filter((column) => !own.some((table) => table.columns.includes(column)));
  const generated = wanted.filter((column) =>
    own.some(({ generatedColumns = [] }) => generatedColumns.includes(column))
  );
  const problems: PolicyProblem[] = [];
  if (missing.length > 0) {
    problems.push({
      severity: "error",
      message: `${placeOf(config, entry)}: columns names ${list(missing)}, ` +
        (own.length > 1 ? "which none of its tables has" : `which ${own[0].label} has not`),
      remedy: "correct columns",
    });
  }
  if (generated.length > 0) {
    problems.push({
      severity: "error",
      message: `${placeOf(config, entry)}: columns names what is never set, but generated: ${list(generated)}`,
      remedy: "name the columns that it is made of",
    });
  }
  return problems;
}
