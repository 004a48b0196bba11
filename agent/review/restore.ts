// `agent conflicts restore`: puts the version that lost back as a new write of this node, in one transaction with the
// note of it in the conflict log. Where it is refused nothing has changed. Never logs a value of a row.
import { shapeOf } from "../apply/relations.ts";
import { deleteRow, insertRow, keyOfImage, lockRow, type RowHere, type RowShape, updateRow } from "../apply/rows.ts";
import { ownSchema } from "../change/marks.ts";
import { RefusedError, UsageError } from "../errors.ts";
import { readRelation, type Relation } from "../postgres/catalog.ts";
import type { Sql } from "../postgres/connect.ts";
import { type ConflictEntry, type Image, labelOf, type Restored, type Role } from "./entry.ts";
import { explain } from "./explain.ts";
import { misfit } from "./fitting.ts";
import { markRestored, readConflict } from "./log.ts";
import { type Act, decide, losingVersion } from "./losing_version.ts";
import { maskText } from "./masking.ts";
import { type Writing, writing } from "./writing.ts";

export interface RestoreOptions {
  /** Whose version, where the entry does not tell. */
  readonly side: Role | null;
  /** Also where it deletes the row. */
  readonly yes: boolean;
  /** Also where the row has been changed since. */
  readonly force: boolean;
  /** Also where it was restored before. */
  readonly again: boolean;
}

export interface RestoreDeps extends Writing {
  /** For looking only. */
  readonly sql: Sql;
  readonly secretOf: (label: string) => readonly string[];
}

/** Throws RefusedError, or UsageError where an option has to be given. */
export async function restore(deps: RestoreDeps, id: number, options: RestoreOptions): Promise<Restored> {
  let entry: ConflictEntry | null = null;
  try {
    return await writing(deps, `restore conflict ${id}`, async (tx) => {
      entry = await readConflict(tx, id, { lock: true });
      return await putBack(tx, entry, options);
    });
  } catch (error) {
    if (entry === null) throw error;
    const { schema, table, primary_row, secondary_row } = entry as ConflictEntry;
    const secret = deps.secretOf(`${schema}.${table}`);
    const mask = (text: string) => maskText(text, [primary_row, secondary_row], secret);
    throw await explain(error, { id, schema, table, sql: deps.sql, mask });
  }
}

async function putBack(tx: Sql, entry: ConflictEntry, options: RestoreOptions): Promise<Restored> {
  const { id, schema, table } = entry;
  const refuse = (what: string, remedy: string) => new RefusedError(`Cannot restore conflict ${id}: ${what}`, remedy);
  if (entry.restored_at !== null && !options.again) {
    throw refuse(`it was restored at ${entry.restored_at}`, "once more: --again");
  }
  const loser = losingVersion(entry, options.side);
  if (schema === ownSchema) {
    throw refuse("it is about the conflict log itself", `agent conflicts reviewed ${id}`);
  }
  const relation = await readRelation(tx, schema, table);
  if (relation?.kind !== "r") {
    throw refuse(
      `there is no table ${labelOf(entry)} any more`,
      "make the table as it was, or take the version by hand",
    );
  }
  const shape = shapeOf(relation);
  // What names the row must be read before anything else can be said of it.
  const version = { row: loser.row ?? {}, against: loser.against, at: entry.at };
  const byHand = "agent conflicts show " + id + ", and add by hand what you need of it";
  const unfit = await misfit(tx, relation, version, false);
  if (unfit) throw refuse(unfit, byHand);
  const { here, named } = await find(tx, shape, entry, loser.row ?? loser.against, refuse);
  const standing = here && { image: here.image, writtenAt: here.writer.commitTime || null };
  const keys = shape.keys.map((c) => c.name);
  const { act, changed } = decide(loser, standing, keys, microseconds(entry.at));
  if (act.do === "nothing") {
    throw refuse(
      here ? "the row is as that version has it already" : "the row is gone already, as in that version",
      `it can be noted as looked at: agent conflicts reviewed ${id}`,
    );
  }
  if (changed && !options.force) {
    throw refuse(changed, "look at the row; to write over it: --force");
  }
  if (act.do === "delete" && !options.yes) {
    throw new UsageError(
      `Cannot restore conflict ${id}: the version that lost is a delete, so the row would be deleted`,
      `if that is meant: agent conflicts restore ${id} --yes`,
    );
  }
  const unfitWhole = act.do === "insert" ? await misfit(tx, relation, version, true) : null;
  if (unfitWhole) throw refuse(unfitWhole, byHand);
  const count = await write(tx, relation, shape, act, named, loser.row);
  if (count !== 1) {
    throw refuse(`${count} rows were written: a trigger or a rule of the table decides otherwise`, byHand);
  }
  await markRestored(tx, id);
  const did = ({ insert: "inserted", update: "updated", delete: "deleted" } as const)[act.do];
  return { id, schema, table, version: loser.side, did };
}

/** The row that the conflict was about, locked, and an image that names it. It may have had two keys: before and after. */
async function find(
  tx: Sql,
  shape: RowShape,
  entry: ConflictEntry,
  version: Image | null,
  refuse: (what: string, remedy: string) => Error,
): Promise<{ here: RowHere | null; named: Image }> {
  const names = (shape.wholeRow ? shape.columns : shape.keys).map((c) => c.name);
  const candidates = (shape.wholeRow ? [version] : [entry.key, version]).filter((image): image is Image =>
    image !== null && names.every((name) => typeof image[name] === "string" || (shape.wholeRow && name in image))
  );
  if (candidates.length === 0) {
    const what = shape.wholeRow ? "other columns, and no key to find the row by" : "another key";
    throw refuse(`its table has ${what} now`, `agent conflicts show ${entry.id}, and add the row by hand`);
  }
  for (const named of candidates) {
    const here = await lockRow(tx, shape, keyOfImage(shape, named), "");
    if (here) return { here, named: keyOfImage(shape, named) };
  }
  return { here: null, named: keyOfImage(shape, candidates.at(-1)!) };
}

/** Writes as the table's owner, in whose name its triggers are to run, and has all constraints checked. */
async function write(
  tx: Sql,
  relation: Relation,
  shape: RowShape,
  act: Act,
  named: Image,
  row: Image | null,
): Promise<number> {
  const [{ owner }] = await tx.unsafe("SELECT relowner::regrole::text AS owner FROM pg_class WHERE oid = $1::oid", [
    relation.oid,
  ]);
  await tx.unsafe(`SET LOCAL ROLE ${owner}`);
  const columns = Object.keys(row ?? {});
  let result;
  if (act.do === "insert") result = await tx.unsafe(insertRow(shape, columns), [row]);
  else if (act.do === "delete") result = await tx.unsafe(deleteRow(shape), [named]);
  else if (act.do === "update") {
    const statement = updateRow(shape, columns, act.newKey);
    result = statement ? await tx.unsafe(statement, [named, row]) : { count: 0 };
  }
  await tx.unsafe("SET CONSTRAINTS ALL IMMEDIATE");
  await tx.unsafe("RESET ROLE");
  return result?.count ?? 0;
}

/** Microseconds since 2000, as rows tell their time. */
function microseconds(iso: string): bigint {
  const [, whole, digits] = /^(.*)\.(\d{6})Z$/.exec(iso)!;
  return BigInt(Date.parse(`${whole}Z`) - Date.UTC(2000, 0, 1)) * 1000n + BigInt(digits);
}
