// Carries out the primary's verdicts at the secondary, except about rows that have a still newer version of their own
// here: those get a verdict of their own, or have been applied over the conflict already. What another row's pending
// version keeps out is asked for again; never leaves a row different without a word.
import { reason } from "../errors.ts";
import { carryOut, makeRoom } from "../merge/carry_out.ts";
import type { UniqueRule } from "../postgres/constraints.ts";
import type { Sql } from "../postgres/connect.ts";
import type { ConflictEntry, VerdictMessage } from "./conflict_log.ts";
import { findBlockers } from "./blockers.ts";
import type { Outcomes } from "./outcomes.ts";
import type { OwnChanges } from "./own_changes.ts";
import { deleteMany, insertMany, selectManyForUpdate, updateMany } from "./row_sets.ts";
import { isCollision, isRefusal } from "./refusals.ts";
import { deleteRow, type RowHere, rowHere, type RowShape } from "./rows.ts";

export interface VerdictDeps {
  readonly sql: Sql;
  readonly own: () => OwnChanges | null;
  readonly peerOrigin: () => string;
  readonly outcomes: Outcomes;
  readonly shapeOf: (schema: string, table: string) => Promise<RowShape | null>;
  readonly rulesOf: (shape: RowShape) => Promise<readonly UniqueRule[]>;
}

/** What is to be done about one row. */
interface Act {
  readonly verdict: VerdictMessage;
  readonly shape: RowShape;
  readonly kind: "delete" | "update" | "insert";
}

/** Applies verdicts that came in one message. `seen`: how far the primary had applied this node's stream. */
export async function applyVerdicts(
  deps: VerdictDeps,
  verdicts: readonly VerdictMessage[],
  seen: bigint,
): Promise<void> {
  const own = deps.own();
  // Of a row that the primary has been asked about, only the answer counts.
  const due = own ? verdicts.filter(({ name }) => !own.askedAbout(name, seen)) : verdicts;
  const acts: Act[] = [];
  for (const [shape, some] of await byShape(deps, due)) acts.push(...await decide(deps, shape, some, seen));
  // What goes makes room for what comes.
  const order = { delete: 0, update: 1, insert: 2 };
  acts.sort((a, b) => order[a.kind] - order[b.kind]);
  if (acts.length === 0) return;
  try {
    await deps.sql.unsafe("SAVEPOINT ha_verdicts");
    for (const set of setsOf(acts)) await run(deps.sql, set);
    await deps.sql.unsafe("RELEASE SAVEPOINT ha_verdicts");
  } catch (error) {
    if (!isRefusal(error)) throw error;
    await deps.sql.unsafe("ROLLBACK TO SAVEPOINT ha_verdicts");
    const told = new Set(due.map(({ name }) => name));
    for (const act of acts) await oneByOne(deps, act, seen, told);
  }
}

/** Verdicts by table, in the shape whose key is what they name their rows by: it need not be the primary key. */
async function byShape(
  deps: VerdictDeps,
  verdicts: readonly VerdictMessage[],
): Promise<Map<RowShape, VerdictMessage[]>> {
  const shapes = new Map<string, RowShape>();
  const found = new Map<RowShape, VerdictMessage[]>();
  for (const verdict of verdicts) {
    const named = Object.keys(verdict.key).sort();
    const id = JSON.stringify([verdict.schema, verdict.table, named]);
    let shape = shapes.get(id);
    if (!shape) {
      const table = await deps.shapeOf(verdict.schema, verdict.table);
      if (!table) throw new Error(`a verdict names ${verdict.schema}.${verdict.table}, which is not here`);
      shape = namedBy(table, named);
      shapes.set(id, shape);
      found.set(shape, []);
    }
    found.get(shape)!.push(verdict);
  }
  return found;
}

function namedBy(table: RowShape, named: readonly string[]): RowShape {
  if (table.keys.length === named.length && table.keys.every((c) => named.includes(c.name))) return table;
  const columns = table.columns.map((c) => ({ ...c, settable: c.settable && !named.includes(c.name) }));
  return { ...table, wholeRow: false, keys: columns.filter((c) => named.includes(c.name)), columns };
}

async function decide(deps: VerdictDeps, shape: RowShape, verdicts: VerdictMessage[], seen: bigint): Promise<Act[]> {
  const { sql } = deps;
  const own = deps.own();
  const rows = await sql.unsafe(selectManyForUpdate(shape), [JSON.stringify(verdicts.map(({ key }) => ({ key })))], {
    prepare: true,
  });
  const here = new Map(rows.map((row) => [row.n as number, rowHere(shape, row, deps.peerOrigin())]));
  const missing = verdicts.some((verdict, i) => verdict.row !== null && !here.has(i + 1));
  if (own && missing) await own.allKnown();
  return verdicts.flatMap((verdict, i): Act[] => {
    const row = here.get(i + 1);
    const gone = verdict.row === null;
    const pending = own !== null &&
      (row ? row.own && own.isUnseen(row.writer, seen) : !gone && own.knownDeleted(verdict.name, seen) !== null);
    const kind = carryOut({ present: row !== undefined, pending }, gone);
    return kind === "skip" ? [] : [{ verdict, shape, kind }];
  });
}

/** Acts of one kind on one table with the same columns, side by side. */
function setsOf(acts: readonly Act[]): Act[][] {
  const idOf = ({ kind, shape, verdict: { row } }: Act) =>
    JSON.stringify([kind, shape.target, shape.keys.map((c) => c.name), row && Object.keys(row).sort()]);
  return [...Map.groupBy(acts, idOf).values()];
}

async function run(sql: Sql, acts: readonly Act[]): Promise<void> {
  const { shape, kind, verdict } = acts[0];
  const columns = Object.keys(verdict.row ?? {});
  const statement = kind === "delete"
    ? deleteMany(shape)
    : kind === "update"
    ? updateMany(shape, columns)
    : insertMany(shape, columns);
  const items = acts.map(({ verdict: { key, row } }) => ({ key, row }));
  if (statement) await sql.unsafe(statement, [JSON.stringify(items)], { prepare: true });
}

/** No more tries for a row that others keep out again and again. */
const mostTries = 5;

async function oneByOne(deps: VerdictDeps, act: Act, seen: bigint, told: ReadonlySet<string>): Promise<void> {
  const { sql, outcomes } = deps;
  const { shape, verdict } = act;
  for (let tries = 1;; tries++) {
    await sql.unsafe("SAVEPOINT ha_row");
    try {
      // Looked at anew: the application may have written the row meanwhile.
      const now = await decide(deps, shape, [verdict], seen);
      if (now.length > 0) await run(sql, now);
      await sql.unsafe("RELEASE SAVEPOINT ha_row");
      return;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await sql.unsafe("ROLLBACK TO SAVEPOINT ha_row");
      if (isCollision(error) && verdict.row && tries < mostTries) {
        const room = await findRoom(deps, act, seen, told);
        if (room === "made") continue;
        if (room === "asked") return;
      }
      outcomes.conflict(refusedVerdict(verdict, reason(error)));
      return;
    }
  }
}

/** Takes away what keeps the row of a verdict out, unless it is pending: see merge/carry_out.ts. */
async function findRoom(
  { sql, own, outcomes, peerOrigin, rulesOf }: VerdictDeps,
  { shape, verdict }: Act,
  seen: bigint,
  told: ReadonlySet<string>,
): Promise<"made" | "asked" | "none"> {
  const changes = own();
  // Without changes of its own this node has nobody listen to a question: nothing may go.
  if (changes === null) return "none";
  const blockers = await findBlockers(sql, shape, await rulesOf(shape), verdict.row!, peerOrigin(), verdict.key);
  const rows = new Map(blockers.map(({ row }) => [row.name, row]));
  const pending = (row: RowHere) => row.own && changes.isUnseen(row.writer, seen);
  const inTheWay = [...rows.values()].map((row) => ({ row: row.name, pending: pending(row) }));
  if (inTheWay.length === 0) return "none";
  const room = makeRoom(verdict.name, inTheWay);
  if (!room.write) {
    outcomes.ask(shape, verdict.name, verdict.key, verdict);
    return "asked";
  }
  for (const name of room.remove) await sql.unsafe(deleteRow(shape), [rows.get(name)!.image], { prepare: true });
  for (const name of room.ask) if (!told.has(name)) outcomes.ask(shape, name, rows.get(name)!.image);
  return "made";
}

function refusedVerdict(verdict: VerdictMessage, why: string): ConflictEntry {
  return {
    kind: "cannot_apply",
    schema: verdict.schema,
    table: verdict.table,
    key: verdict.key,
    primaryRow: verdict.row,
    secondaryRow: null,
    primaryTime: null,
    secondaryTime: null,
    primaryLsn: null,
    secondaryLsn: null,
    policy: "verdict",
    winner: "none",
    why,
    loggedBy: "secondary",
    quarantined: true,
  };
}
