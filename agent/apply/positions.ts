// How far the peer's sequences have come, as it tells: noted in the applier's transaction for whoever looks after this
// node's own (node/sequence_watch.ts). Moves no sequence itself: that takes a lock which no batch should wait for. Never
// fails a batch: what is not to be understood is left out.
import { Buffer } from "node:buffer";
import { z } from "zod";
import type { Sql } from "../postgres/connect.ts";

/** Names as a server may have them: text without NUL, and nothing that UTF-8 cannot say. */
const name = z.string().refine((text) => !text.includes("\0") && Buffer.from(text).toString("utf8") === text);
const int8 = z.string().refine((text) => /^-?\d{1,19}$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text));
const position = z.object({ schema: name, name, last: int8 });

export type SequencePosition = z.infer<typeof position>;

/** Reads a message; of several positions of one sequence the last counts. */
export function parsePositions(content: string): SequencePosition[] {
  let told: unknown;
  try {
    told = JSON.parse(content);
  } catch (error) {
    if (error instanceof SyntaxError) return []; // anybody may write messages into the WAL
    throw error;
  }
  if (!Array.isArray(told)) return [];
  const found = new Map<string, SequencePosition>();
  for (const each of told) {
    const { data } = position.safeParse(each);
    if (data) found.set(`${data.schema}\0${data.name}`, data);
  }
  return [...found.values()];
}

/** Notes the positions of a message with prefix `ha_sequences`. */
export async function applyPositions(sql: Sql, content: string): Promise<void> {
  const positions = parsePositions(content);
  if (positions.length === 0) return;
  await sql.unsafe(
    `INSERT INTO ha.sequence_position AS p (schema_name, sequence_name, last_value)
     SELECT schema, name, last::bigint FROM json_to_recordset($1::text::json) AS t(schema text, name text, last text)
     ON CONFLICT (schema_name, sequence_name) DO UPDATE SET last_value = excluded.last_value, told_at = now()`,
    [JSON.stringify(positions)],
  );
}
