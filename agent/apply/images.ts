// Turns the binary tuples of changes into images (text forms), by way of the staging tables: only the server knows the
// types. For the ordered path alone; the fast path never makes text of a value.
import { columnTag, decodeChange, decodeTuple, tag } from "../change/pgoutput.ts";
import { keyBytes, rowName } from "../change/row_key.ts";
import type { Sql } from "../postgres/connect.ts";
import { copyIn, matchKeys } from "./bulk.ts";
import type { Op } from "./inbox.ts";
import type { ChangeImages } from "./one_change.ts";
import type { Plan } from "./plan.ts";
import type { Relations } from "./relations.ts";
import { type Image, imageOf, keyOfImage } from "./rows.ts";

/** The images of every row change among `ops`. Leaves the staging tables as it found them but for rows of its own. */
export async function readImages(
  sql: Sql,
  relations: Relations,
  ops: readonly Op[],
): Promise<Map<Op, ChangeImages>> {
  const byPlan = Map.groupBy(ops.filter(({ relation }) => relation), ({ relation }) => relations.plan(relation!));
  const images = new Map<Op, ChangeImages>();
  for (const [plan, own] of byPlan) await readOf(sql, relations, plan, own, images);
  return images;
}

async function readOf(sql: Sql, relations: Relations, plan: Plan, ops: Op[], images: Map<Op, ChangeImages>) {
  const columns = plan.columns.map((c) => c.quoted).join(", ");
  const changes = ops.map((op) => decodeChange(op.message));
  plan.filled.rows += ops.length;
  // Negative numbers, so that they are never taken for rows of the fast path.
  await copyIn(
    sql,
    `COPY ${plan.stage} (ha_n, ha_old, ${columns}) FROM STDIN (FORMAT binary)`,
    relations.types,
    (out) => {
      ops.forEach((op, i) => {
        for (const at of [changes[i].oldTuple, changes[i].newTuple]) {
          if (at < 0) continue;
          out.startRow(plan.columns.length + 2);
          out.addInt4(-1 - i);
          out.addBoolean(at === changes[i].oldTuple);
          out.addColumns({ message: op.message, at, base: null }, plan.columns);
        }
      });
    },
  );
  const missing = plan.wholeRow ? "false" : `NOT EXISTS (SELECT FROM ONLY ${plan.target} t WHERE ${matchKeys(plan)})`;
  const rows = await sql.unsafe(
    `WITH own AS (SELECT * FROM ${plan.stage} WHERE ha_n < 0) ` +
      `SELECT ha_n, ha_old, ${imageOf("s", plan.columns)} AS image, ${missing} AS missing FROM own s`,
  );
  await sql.unsafe(`DELETE FROM ${plan.stage} WHERE ha_n < 0`);
  const found = new Map<string, Image>();
  const absent = new Set<string>();
  for (const row of rows) {
    found.set(`${row.ha_n} ${row.ha_old}`, row.image);
    if (row.missing) absent.add(`${row.ha_n} ${row.ha_old}`);
  }
  const name = (op: Op, at: number) => {
    const key = keyBytes(op.message, at, plan.keyPositions);
    return key === null ? null : rowName(plan.relation.schema, plan.relation.name, key);
  };
  ops.forEach((op, i) => {
    const { oldTuple, oldIsKey, newTuple } = changes[i];
    const old = oldTuple < 0 ? null : found.get(`${-1 - i} true`) ?? null;
    const image = newTuple < 0 ? null : found.get(`${-1 - i} false`) ?? null;
    if (op.message[0] === tag.update && image) leaveOut(op, newTuple, plan, image, oldIsKey ? null : old);
    images.set(op, {
      old: old && oldIsKey ? keyOfImage(plan, old) : old,
      new: image,
      oldName: oldTuple < 0 ? null : name(op, oldTuple),
      newName: newTuple < 0 ? null : name(op, newTuple),
      missing: absent.has(`${-1 - i} ${oldTuple >= 0}`),
    });
  });
}

/** A large value that the change did not touch is not in its tuple: its column leaves the image, or comes from `old`. */
function leaveOut(op: Op, at: number, plan: Plan, image: Image, old: Image | null): void {
  const kinds = decodeTuple(op.message, at);
  for (const column of plan.columns) {
    if (kinds[column.position].kind !== columnTag.unchanged) continue;
    if (old) image[column.name] = old[column.name];
    else delete image[column.name];
  }
}
