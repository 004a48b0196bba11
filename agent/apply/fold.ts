// Folds a batch: several changes to one key become one, changes of a relation become sets. What depends on order beyond
// its own key (key changes, truncates, rows without a key, verdicts) stays an ordered step between the sets.
// Pure; must give the same end as applying the changes one by one.
import { columnTag, decodeChange, tag } from "../change/pgoutput.ts";
import { columnEnd, keyBytes } from "../change/row_key.ts";
import type { Row } from "./copy_rows.ts";
import type { Op } from "./inbox.ts";
import type { Plan } from "./plan.ts";

/** Deletes are applied first, then updates, then inserts. `updates` by the columns left out: `mask` lists positions. */
export interface RelationWork {
  readonly plan: Plan;
  readonly deletes: Row[];
  readonly updates: Map<string, Row[]>;
  readonly inserts: Row[];
}

export type Segment =
  | { readonly kind: "sets"; readonly works: RelationWork[]; readonly ops: Op[] }
  | { readonly kind: "ordered"; readonly ops: Op[] };

/** What became of one key within the batch. */
interface Entry {
  deletes: Row | null;
  update: Row | null;
  insert: Row | null;
}

interface Collected {
  plan: Plan;
  /** Until the first update or delete there is nothing to fold. */
  onlyInserts: Row[];
  entries: Map<string, Entry> | null;
}

/** How a change is to be written where that is not how the peer wrote it: its row may be gone here, or there already. */
export type WriteAs = ReadonlyMap<Op, "insert" | "update">;

/** Splits and folds `ops`; `planOf` gives the plan of an op's relation. */
export function fold(ops: readonly Op[], planOf: (op: Op) => Plan, writeAs: WriteAs = new Map()): Segment[] {
  const segments: Segment[] = [];
  let collected = new Map<Plan, Collected>();
  let collectedOps: Op[] = [];
  const close = () => {
    if (collectedOps.length > 0) {
      segments.push({ kind: "sets", works: [...collected.values()].map(toWork), ops: collectedOps });
    }
    collected = new Map();
    collectedOps = [];
  };
  for (const op of ops) {
    if (op.relation) {
      const plan = planOf(op);
      let own = collected.get(plan);
      if (!own) collected.set(plan, own = { plan, onlyInserts: [], entries: null });
      if (collect(own, op, writeAs.get(op))) {
        collectedOps.push(op);
        continue;
      }
    }
    close();
    const last = segments.at(-1);
    if (last?.kind === "ordered") last.ops.push(op);
    else segments.push({ kind: "ordered", ops: [op] });
  }
  close();
  return segments;
}

/** Adds a change to its relation's sets; false if it can only be applied in order. */
function collect(own: Collected, op: Op, as: "insert" | "update" | undefined): boolean {
  const { chunk: message, at, end } = op;
  const kind = message[at];
  if (as ? as === "insert" : kind === tag.insert) {
    const row: Row = { message, at: decodeChange(message, at, end).newTuple, base: null };
    if (!own.entries) {
      own.onlyInserts.push(row);
      return true;
    }
    const key = keyBytes(message, row.at, own.plan.keyPositions);
    if (key === null) return false;
    const entry = own.entries.get(key);
    // A row that exists already, as far as this batch tells: let the ordered path find out what is going on.
    if (entry && (entry.insert || entry.update)) return false;
    if (entry) entry.insert = row;
    else own.entries.set(key, { deletes: null, update: null, insert: row });
    return true;
  }
  if (own.plan.wholeRow) return false;
  const change = decodeChange(message, at, end);
  const key = keyBytes(message, change.newTuple >= 0 ? change.newTuple : change.oldTuple, own.plan.keyPositions);
  if (key === null) return false;
  if (
    kind === tag.update && change.oldTuple >= 0 &&
    keyBytes(message, change.oldTuple, own.plan.keyPositions) !== key
  ) {
    return false;
  }
  const entries = entriesOf(own);
  if (!entries) return false;
  let entry = entries.get(key);
  if (!entry) entries.set(key, entry = { deletes: null, update: null, insert: null });
  if (kind === tag.delete) {
    const row: Row = { message, at: change.oldTuple, base: null };
    // Inserted and deleted within the batch: nothing is left of it.
    if (entry.insert && !entry.deletes) entries.delete(key);
    else {
      entry.deletes ??= row;
      entry.update = null;
      entry.insert = null;
    }
    return true;
  }
  if (entry.insert) entry.insert = { message, at: change.newTuple, base: entry.insert };
  else if (entry.deletes) return false;
  else entry.update = { message, at: change.newTuple, base: entry.update };
  return true;
}

/** Turns to folding by key at the first update or delete; null if an earlier insert has no readable key. */
function entriesOf(own: Collected): Map<string, Entry> | null {
  if (own.entries) return own.entries;
  const entries = new Map<string, Entry>();
  for (const row of own.onlyInserts) {
    const key = keyBytes(row.message, row.at, own.plan.keyPositions);
    if (key === null || entries.has(key)) return null;
    entries.set(key, { deletes: null, update: null, insert: row });
  }
  own.entries = entries;
  own.onlyInserts = [];
  return entries;
}

function toWork({ plan, onlyInserts, entries }: Collected): RelationWork {
  const work: RelationWork = { plan, deletes: [], updates: new Map(), inserts: onlyInserts };
  for (const entry of entries?.values() ?? []) {
    if (entry.deletes) work.deletes.push(entry.deletes);
    if (entry.insert) work.inserts.push(entry.insert);
    if (entry.update) {
      const mask = unchangedColumns(entry.update).join();
      const rows = work.updates.get(mask);
      if (rows) rows.push(entry.update);
      else work.updates.set(mask, [entry.update]);
    }
  }
  return work;
}

/**
 * Positions of the columns that neither the row nor its earlier versions in the batch carry. Steps from version to
 * version: one row may have been updated as often as a batch has changes.
 */
export function unchangedColumns(row: Row): number[] {
  let left = unchangedIn(row);
  for (let below = row.base; below && left.length > 0; below = below.base) {
    const own = new Set(unchangedIn(below));
    left = left.filter((position) => own.has(position));
  }
  return left;
}

function unchangedIn({ message, at }: Row): number[] {
  const positions: number[] = [];
  const count = message.readUInt16BE(at);
  at += 2;
  for (let position = 0; position < count; position++) {
    if (message[at] === columnTag.unchanged) positions.push(position);
    at = columnEnd(message, at);
  }
  return positions;
}
