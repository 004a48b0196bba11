// Whether indexes are in the order that this machine sorts by, and whether both machines sort alike. Pure.
import type { CollationFacts } from "../check_report.ts";
import { isStale } from "../postgres/collations.ts";
import { type Bare, failing, listed, ok, warning } from "./finding.ts";

const nameOf = ({ label, ofDatabase }: CollationFacts) => ofDatabase ? `database ${label}` : `collation ${label}`;
const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** One node: an index that was built by another version of the collation may not find its rows. */
export function collationFindings(collations: readonly CollationFacts[]): Bare[] {
  const stale = collations.filter(isStale);
  if (stale.length === 0) return [ok("collations", "every index was built by the collations of this machine")];
  return stale.map((one) => {
    const { label, ofDatabase, provider, recorded, actual, indexes } = one;
    const refresh = ofDatabase
      ? `ALTER DATABASE ${quoted(label)} REFRESH COLLATION VERSION;`
      : `ALTER COLLATION ${label} REFRESH VERSION;`;
    const rebuild = indexes.map((index) => `REINDEX INDEX ${index};`).join(" ");
    const now = actual === null ? "has none" : `has ${actual}`;
    return failing(
      "collations",
      `the indexes of ${nameOf(one)} were built by ${provider} ${recorded}, this machine ${now}: ` +
        (indexes.length > 0 ? `they may not find rows: ${listed(indexes)}` : "none depends on it here"),
      `${rebuild}${rebuild ? " " : ""}${refresh}`,
    );
  });
}

/** Both nodes: the same database on machines that sort differently. */
export function compareCollations(
  here: { name: string; collations: readonly CollationFacts[] },
  there: { name: string; collations: readonly CollationFacts[] },
): Bare[] {
  const known = new Map(there.collations.map((one) => [nameOf(one), one]));
  const found: Bare[] = [];
  for (const one of here.collations) {
    const other = known.get(nameOf(one));
    if (!other) continue;
    if (one.provider !== other.provider || one.locale !== other.locale) {
      found.push(failing(
        "locale",
        `${
          nameOf(one)
        } is ${one.provider} ${one.locale} on ${here.name}, ${other.provider} ${other.locale} on ${there.name}`,
        "set the secondary up again from a new pack",
      ));
    } else if (one.actual !== other.actual) {
      found.push(warning(
        "collation_versions",
        `${nameOf(one)} is sorted by ${one.provider} ${one.actual ?? "(none)"} on ${here.name}, by ${
          other.actual ?? "(none)"
        } on ${there.name}: texts may come in another order after a failover`,
        "install the same release of the operating system on both; a secondary that is set up from a pack has its " +
          "indexes rebuilt",
      ));
    }
  }
  return found.length > 0 ? found : [ok("locale", "locales and versions of collations are the same on both")];
}
