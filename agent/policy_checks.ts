// What is wrong with [merge] and [[table]] of agent.toml (and, asked for with it, with [[primary_only]]), seen with the
// tables that there are. Pure: who asks decides whether to refuse (errors) or to alarm.
import type { Config, TableEntry } from "./config.ts";
import { UsageError } from "./errors.ts";
import { list, noSuchTable, type PolicyProblem } from "./policy_problems.ts";
import { checkPrimaryOnly } from "./primary_only.ts";
import { hasWildcard, namesTable } from "./table_pattern.ts";
import { entryFor, matches, needsKey, policyOfEntry, type TableFacts } from "./table_policies.ts";

/** `[[table]] 2 (match = "vault.*")`, as the other errors about agent.toml name it. */
const placeOf = (config: Config, entry: TableEntry): string =>
  `[[table]] ${config.table.indexOf(entry) + 1} (match = "${entry.match}")`;

/** All problems, the errors first. Without any table in the database, names of tables are not judged. */
export function checkPolicies(config: Config, tables: readonly TableFacts[]): PolicyProblem[] {
  const byLabel = new Map(tables.map((table) => [table.label, table]));
  const entryOf = entryFor(config, (label) => byLabel.get(label));
  const found = [
    ...config.table.flatMap((entry) => [
      ...contradictions(config, entry),
      ...unmatched(config, entry, tables),
      ...overtaken(config, entry, tables, entryOf),
      ...unfit(config, entry, tables.filter(({ label }) => entryOf(label) === entry)),
    ]),
    ...exposed(config, tables, entryOf),
    ...withoutKey(config, tables, entryOf),
    ...frozen(tables),
    ...checkPrimaryOnly(config, tables),
  ];
  return [...found.filter((each) => each.severity === "error"), ...found.filter((each) => each.severity === "alarm")];
}

/** Throws UsageError if the rules of `origin` cannot be used with these tables. */
export function refuseBadPolicies(config: Config, tables: readonly TableFacts[], origin: string): void {
  const errors = checkPolicies(config, tables).filter(({ severity }) => severity === "error");
  if (errors.length === 0) return;
  throw new UsageError(
    `Cannot use ${origin}: ${errors.map(({ message }) => message).join("; ")}`,
    [...new Set(errors.map(({ remedy }) => remedy))].join("; "),
  );
}

/** What an entry says against itself or against another one, whatever the tables. */
function contradictions(config: Config, entry: TableEntry): PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  const twin = config.table.find((other) => other.match === entry.match);
  if (twin && twin !== entry) {
    problems.push({
      severity: "error",
      message: `${placeOf(config, entry)}: [[table]] ${config.table.indexOf(twin) + 1} has the same match`,
      remedy: "make one entry of the two",
    });
  }
  if (policyOfEntry(config, entry).rows === "append_only" && entry.deletes !== undefined) {
    problems.push({
      severity: "error",
      message: `${placeOf(config, entry)}: it says what becomes of deleted rows (deletes = "${entry.deletes}"), ` +
        `but in an append_only table none are deleted`,
      remedy: "take deletes out of the entry, or give it another policy",
    });
  }
  return problems;
}

/** An entry that names no table. */
function unmatched(config: Config, entry: TableEntry, tables: readonly TableFacts[]): PolicyProblem[] {
  if (tables.some(({ label, root }) => matches(entry.match, label, root))) return [];
  return [noSuchTable(placeOf(config, entry), entry.match, tables)];
}

/** An entry all of whose tables earlier ones have taken, with other words. */
function overtaken(
  config: Config,
  entry: TableEntry,
  tables: readonly TableFacts[],
  entryOf: (label: string) => TableEntry | undefined,
): PolicyProblem[] {
  const own = tables.filter(({ label, root }) => matches(entry.match, label, root));
  const takers = [...new Set(own.map(({ label }) => entryOf(label)!))];
  if (own.length === 0 || takers.includes(entry)) return [];
  const other = takers.find((taker) => saysOf(config, taker) !== saysOf(config, entry));
  // Two entries of one match are told of already.
  if (!other || takers.some(({ match }) => match === entry.match)) return [];
  const never = !hasWildcard(entry.match) || takers.some(({ match }) => covers(match, entry.match));
  return [{
    severity: never ? "error" : "alarm",
    message: never
      ? `${placeOf(config, entry)}: it never counts, as ${placeOf(config, other)} comes first and says otherwise`
      : `${placeOf(config, entry)}: it counts for no table now, as ${placeOf(config, other)} comes first`,
    remedy: "put the narrower entry before the wider one, or take one of them out",
  }];
}

const saysOf = (config: Config, entry: TableEntry): string =>
  JSON.stringify([policyOfEntry(config, entry), [...new Set(entry.secret)].sort()]);

/** Does `wide` match whatever `narrow` may match? Tried with samples: never true for patterns that only overlap. */
function covers(wide: string, narrow: string): boolean {
  return ["", "q", "q7_z9"].every((filling) => namesTable(wide, narrow.replaceAll("*", filling).replaceAll("?", "j")));
}

/** What an entry says that its tables cannot do. */
function unfit(config: Config, entry: TableEntry, own: readonly TableFacts[]): PolicyProblem[] {
  const problems: PolicyProblem[] = [];
  const keyless = own.filter(({ primaryKey }) => primaryKey.length === 0).map(({ label }) => label);
  if (entry.policy && needsKey(entry.policy) && keyless.length > 0) {
    problems.push({
      severity: "error",
      message: `${placeOf(config, entry)}: ${entry.policy} needs a primary key that is not deferrable, and ` +
        `${list(keyless)} ${keyless.length > 1 ? "have" : "has"} none`,
      remedy: "add the key, or give these tables an entry of their own with another policy, before this one",
    });
  }
  const virtual = own.filter(({ virtualColumns = [] }) => virtualColumns.length > 0).map(({ label }) => label);
  if (entry.policy === "merge_columns" && virtual.length > 0) {
    problems.push({
      severity: "error",
      message:
        `${placeOf(config, entry)}: merge_columns needs REPLICA IDENTITY FULL, with which PostgreSQL refuses every ` +
        `UPDATE of a table with virtual generated columns: ${list(virtual)}`,
      remedy:
        "make these columns STORED, or give these tables an entry of their own with another policy, before this one",
    });
  }
  const missing = [...new Set(entry.secret)].filter((column) => !own.some(({ columns }) => columns.includes(column)));
  if (own.length > 0 && missing.length > 0) {
    problems.push({
      severity: "error",
      message: `${placeOf(config, entry)}: secret names ${list(missing)}, ` +
        (own.length > 1 ? "which none of its tables has" : `which ${own[0].label} has not`),
      remedy: "correct secret",
    });
  }
  return problems;
}

/** Tables that are append_only while statements that name the table above them may change their rows. */
function exposed(
  config: Config,
  tables: readonly TableFacts[],
  entryOf: (label: string) => TableEntry | undefined,
): PolicyProblem[] {
  const appendOnly = (label: string) => policyOfEntry(config, entryOf(label)).rows === "append_only";
  const known = new Set(tables.map(({ label }) => label));
  return tables.flatMap(({ label, parents }) => {
    const entry = entryOf(label);
    const parent = parents.find((above) => known.has(above) && !appendOnly(above));
    if (!entry || !parent || !appendOnly(label)) return [];
    return [{
      severity: "error" as const,
      message: `${placeOf(config, entry)}: ${label} is a part of ${parent}, which is not append_only, ` +
        `so its rows could be changed by way of that`,
      remedy: `make ${parent} append_only as well`,
    }];
  });
}

/** A default that needs a key, and tables without one. */
function withoutKey(
  config: Config,
  tables: readonly TableFacts[],
  entryOf: (label: string) => TableEntry | undefined,
): PolicyProblem[] {
  if (!needsKey(config.merge.default)) return [];
  const keyless = tables.filter(({ label, primaryKey }) => primaryKey.length === 0 && !entryOf(label)?.policy);
  if (keyless.length === 0) return [];
  return [{
    severity: "alarm",
    message: `[merge]: default = "${config.merge.default}" needs a primary key; without one, so last_update_wins: ` +
      list(keyless.map(({ label }) => label)),
    remedy: "add the keys, or give these tables a [[table]] with another policy",
  }];
}

/** Without a key only REPLICA IDENTITY FULL can name rows, and PostgreSQL does not allow that with virtual columns. */
function frozen(tables: readonly TableFacts[]): PolicyProblem[] {
  const stuck = tables.filter(({ primaryKey, virtualColumns = [] }) =>
    primaryKey.length === 0 && virtualColumns.length > 0
  );
  if (stuck.length === 0) return [];
  return [{
    severity: "alarm",
    message:
      "PostgreSQL refuses UPDATE and DELETE in tables with virtual generated columns and without a primary key: " +
      list(stuck.map(({ label }) => label)),
    remedy: "add a primary key, or make the columns STORED",
  }];
}
