// What a rehearsal of the merge has found, for people and scripts: counted by table and kind, and the conflicts one by one
// with secret values masked. Pure. Keeps no rows, and no more conflicts than a list may have.
import type { ConflictEntry } from "../apply/conflict_log.ts";
import type { Image, Role } from "./entry.ts";
import { mask, maskText } from "./masking.ts";

export interface RehearsedConflict {
  /** `schema.table` */
  readonly table: string;
  readonly key: Image;
  readonly kind: string;
  readonly winner: Role | "both" | "none";
  readonly policy: string;
  readonly why: string;
  /** The losing row would stand in no table any more. */
  readonly quarantined: boolean;
}

/** The conflicts of one kind in one table: how many, and of these, who would win and what would be quarantined. */
export interface RehearsedGroup {
  readonly table: string;
  readonly kind: string;
  readonly conflicts: number;
  readonly primary: number;
  readonly secondary: number;
  readonly both: number;
  readonly none: number;
  readonly quarantined: number;
}

/** The answer of POST /merge/rehearse; what a script may hold on to. */
export interface Rehearsal {
  /** The merge is held: nothing is applied until it is released. */
  readonly held: boolean;
  /** What waits to be merged. */
  readonly transactions: number;
  readonly changes: number;
  readonly conflicts_found: number;
  readonly summary: readonly RehearsedGroup[];
  readonly conflicts: readonly RehearsedConflict[];
  /** How many of those found are not among `conflicts`. */
  readonly left_out: number;
  readonly seconds: number;
}

/** More than anybody reads; what is beyond it is counted. */
const mostListed = 50_000;

export class Findings {
  private readonly groups = new Map<string, { -readonly [name in keyof RehearsedGroup]: RehearsedGroup[name] }>();
  private readonly listed: RehearsedConflict[] = [];
  private found = 0;

  constructor(
    private readonly secretOf: (label: string) => readonly string[],
    private readonly most = mostListed,
  ) {}

  add(entry: ConflictEntry): void {
    const table = `${entry.schema}.${entry.table}`;
    const { kind, winner, policy, quarantined, key, primaryRow, secondaryRow } = entry;
    this.found++;
    const group = this.groupOf(table, kind);
    group.conflicts++;
    group[winner]++;
    if (quarantined) group.quarantined++;
    if (this.listed.length >= this.most) return;
    const secret = this.secretOf(table);
    const why = maskText(entry.why, [key, primaryRow, secondaryRow], secret);
    this.listed.push({ table, key: masked(key, secret), kind, winner, policy, why, quarantined });
  }

  result(): Pick<Rehearsal, "conflicts_found" | "summary" | "conflicts" | "left_out"> {
    const order = (a: RehearsedGroup, b: RehearsedGroup) =>
      a.table < b.table ? -1 : a.table > b.table ? 1 : a.kind < b.kind ? -1 : 1;
    return {
      conflicts_found: this.found,
      summary: [...this.groups.values()].sort(order),
      conflicts: this.listed,
      left_out: this.found - this.listed.length,
    };
  }

  private groupOf(table: string, kind: string) {
    const id = `${table}\0${kind}`;
    const known = this.groups.get(id);
    if (known) return known;
    const group = { table, kind, conflicts: 0, primary: 0, secondary: 0, both: 0, none: 0, quarantined: 0 };
    this.groups.set(id, group);
    return group;
  }
}

function masked(key: Image, secret: readonly string[]): Image {
  const shown = Object.entries(key).map(([name, value]) =>
    [name, value !== null && secret.includes(name) ? mask : value] as const
  );
  return Object.fromEntries(shown);
}
