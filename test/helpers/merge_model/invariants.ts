// What must hold of a world at rest: both sides equal, nothing lost without a log entry, no false conflict, nothing that
// the tables' rules forbid, nothing pending.
import { alive, ancestors, keyOf, tableOf, type Version } from "./values.ts";
import type { World } from "./world.ts";

/** What is wrong; null if nothing is. */
export function problemOf(world: World): string | null {
  const { ledger } = world;
  if (ledger.faults.length > 0) return ledger.faults[0];
  return diverged(world) ?? broken(world) ?? lost(world) ?? lostColumn(world) ?? pending(world);
}

function diverged({ primary, secondary }: World): string | null {
  for (const name of new Set([...primary.rows.keys(), ...secondary.rows.keys()])) {
    const [a, b] = [primary, secondary].map((node) => alive(node.rows.get(name)));
    if (a === b || (a && b && JSON.stringify(a.image) === JSON.stringify(b.image))) continue;
    return `diverged on ${tableOf(name)} ${keyOf(name)}: ${textOf(a)} at the primary, ${textOf(b)} at the secondary`;
  }
  return null;
}

const textOf = (version: Version | null): string => version ? JSON.stringify(version.image) : "gone";

function broken(world: World): string | null {
  for (const node of world.nodes) {
    for (const [name, { version }] of node.rows) {
      if (!version.image) continue;
      if (node.blockers(name, version.image, name).length > 0) return `two rows of one value at the ${node.role}`;
      if (node.missingParent(version.image)) return `${keyOf(name)} has no parent at the ${node.role}`;
    }
  }
  return null;
}

function lost({ ledger, nodes }: World): string | null {
  const known = new Set<Version>();
  for (const node of nodes) for (const { version } of node.rows.values()) ancestors(version, known);
  for (const { losers } of ledger.entries) for (const version of losers) ancestors(version, known);
  for (const version of ledger.ended) ancestors(version, known);
  const missing = ledger.versions.filter((version) => !known.has(version));
  return missing.length > 0 ? `lost without a log entry: ${missing.map(({ id }) => id)}` : null;
}

function pending({ nodes }: World): string | null {
  for (const node of nodes) {
    const { transactions } = node.history.pending();
    if (transactions > 0) return `${transactions} transactions of the ${node.role} stay pending`;
  }
  return null;
}

/** Of a row that was never deleted nor moved: a column's value gives way only to one that was written without sight of it. */
function lostColumn({ ledger, primary }: World): string | null {
  const { policy, unique } = primary.rules;
  // A version that gives way to another row gives way as a whole.
  if (policy.rows !== "merge_columns" || unique) return null;
  // So does a child whose parent is gone.
  const asWhole = new Set<Version>();
  for (const { kind, losers } of ledger.entries) {
    if (kind === "foreign_key_dangling") { for (const version of losers) ancestors(version, asWhole); }
  }
  for (const [name, { version }] of primary.rows) {
    const own = ledger.versions.filter((each) => each.name === name);
    if (!version.image || own.some(({ image, parents }) => !image || parents.some((each) => each.name !== name))) {
      continue;
    }
    for (const column of ["a", "b"]) {
      const kept = writersOf(version, column);
      const writers = own.filter((each) => each.image![column] === String(each.id));
      for (const one of writers) {
        // Only the last that a side wrote: what it wrote before gave way to that.
        if (asWhole.has(one)) continue;
        if (kept.has(one) || writers.some((each) => each !== one && ancestors(each).has(one))) continue;
        if (![...kept].some((other) => areConcurrent(one, other))) return `column ${column} lost what ${one.id} wrote`;
        if (!isLogged(ledger, column, one)) return `column ${column} lost what ${one.id} wrote, without a log entry`;
      }
    }
  }
  return null;
}

const areConcurrent = (one: Version, other: Version): boolean =>
  !ancestors(one).has(other) && !ancestors(other).has(one);

const isLogged = ({ entries }: World["ledger"], column: string, { image }: Version): boolean =>
  entries.some(({ versions }) => versions.some((logged) => logged.image?.[column] === image![column]));

/** The versions that wrote what the column has been, up to this one. */
function writersOf(version: Version, column: string): Set<Version> {
  const found = new Set<Version>();
  for (let one: Version | undefined = version; one; one = one.sources?.[column] ?? one.parents[0]) {
    if (one.by !== "merge" && one.image?.[column] === String(one.id)) found.add(one);
  }
  return found;
}
