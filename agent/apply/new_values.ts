// Values from a column's own default, for rows that need a new key. In a rehearsal no sequence may move, not even in a
// transaction that is rolled back: there the values come from far ahead, where nobody else takes any meanwhile.
import type { Sql } from "../postgres/connect.ts";

/** Evaluates a column's default. */
export type NewValue = (expression: string) => Promise<string>;

export function newValues(sql: Sql): NewValue {
  return async (expression) => {
    const [{ value }] = await sql.unsafe(`SELECT (${expression})::text AS value`);
    return value;
  };
}

/** How far ahead: more than an application takes while a rehearsal runs. */
const distance = 1_000_000;

/** In the session of a rehearsal (see prepareRehearsal). */
export function rehearsedValues(sql: Sql): NewValue {
  const evaluate = newValues(sql);
  return (expression) => evaluate(expression.replaceAll(/\b(?:pg_catalog\.)?nextval\(/g, "pg_temp.ha_nextval("));
}

/** Readies a session, outside of its transaction, to answer nextval without a step of the sequence itself. */
export async function prepareRehearsal(sql: Sql): Promise<void> {
  await sql.unsafe("CREATE TEMPORARY SEQUENCE ha_rehearsed");
  await sql.unsafe(
    `CREATE FUNCTION pg_temp.ha_nextval(regclass) RETURNS bigint LANGUAGE sql AS $$
       SELECT (CASE WHEN ahead BETWEEN seqmin AND seqmax THEN ahead
         ELSE CASE WHEN seqincrement > 0 THEN seqmax ELSE seqmin END - seqincrement::numeric * n END)::bigint
       FROM (SELECT seqmin, seqmax, seqincrement, n, coalesce(pg_sequence_last_value(seqrelid), seqstart)
           + seqincrement::numeric * (${distance} + n) AS ahead
         FROM pg_sequence, (SELECT nextval('pg_temp.ha_rehearsed') AS n OFFSET 0) steps WHERE seqrelid = $1) values
     $$`,
  );
}
