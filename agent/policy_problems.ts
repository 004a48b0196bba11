// What a problem with the rules of agent.toml is, and the words that all of them share: how tables are named, which one
// was meant. Pure.
import { hasWildcard } from "./table_pattern.ts";
import type { TableFacts } from "./table_policies.ts";

export interface PolicyProblem {
  readonly severity: "error" | "alarm";
  /** "where: what", as the end of a sentence. */
  readonly message: string;
  readonly remedy: string;
}

/** So many tables are named in one message. */
const named = 5;

/** The names, the first few of many. */
export function list(names: readonly string[]): string {
  const more = names.length - named;
  return names.slice(0, named).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** An entry that names no table. A pattern may wait for its tables, a name that is nobody's is a slip of the pen. */
export function noSuchTable(place: string, match: string, tables: readonly TableFacts[]): PolicyProblem {
  if (hasWildcard(match) || tables.length === 0) {
    return {
      severity: "alarm",
      message: `${place}: there is no such table yet`,
      remedy: "correct the entry, or take it out, unless its tables are still to be made",
    };
  }
  const meant = guess(match, tables);
  const schema = match.includes(".") ? "" : ": schema and name are needed";
  return {
    severity: "error",
    message: `${place}: there is no such table${schema}${meant ? `; did you mean "${meant}"?` : ""}`,
    remedy: "name tables by schema and name, e.g. public.account, or take the entry out",
  };
}

function guess(match: string, tables: readonly TableFacts[]): string | undefined {
  const wanted = match.toLowerCase();
  const name = wanted.slice(wanted.lastIndexOf(".") + 1);
  const same = tables.find(({ label }) => label.toLowerCase() === wanted);
  const elsewhere = tables.filter((table) => table.name.toLowerCase() === name);
  return (same ?? elsewhere.find(({ schema }) => schema === "public") ?? elsewhere[0])?.label;
}
