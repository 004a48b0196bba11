// The key of a row as bytes: what a change names its row by, the same on both nodes and without decoding a value.
import type { Buffer } from "node:buffer";
import { columnTag } from "./pgoutput.ts";

/**
 * The bytes (as latin1) of the columns at `positions`, ascending, each with its length in front, so that ("ab", "c") is
 * not ("a", "bc"); null where one of them is not in the tuple.
 */
export function keyBytes(message: Buffer, at: number, positions: readonly number[]): string | null {
  if (positions.length === 0) return null;
  let offset = at + 2;
  let position = 0;
  let key = "";
  for (const wanted of positions) {
    for (; position < wanted; position++) offset = columnEnd(message, offset);
    const kind = message[offset];
    if (kind !== columnTag.binary && kind !== columnTag.text) return null;
    const end = columnEnd(message, offset);
    key += message.toString("latin1", offset + 1, end);
    offset = end;
    position++;
  }
  return key;
}

/**
 * Has a row the same key in the tuple at `newAt` as in the one at `oldAt`? A value that the change left alone where it
 * lies (TOAST) is not in the new tuple, and equal.
 */
export function sameKey(message: Buffer, oldAt: number, newAt: number, positions: readonly number[]): boolean {
  let before = oldAt + 2;
  let after = newAt + 2;
  let position = 0;
  for (const wanted of positions) {
    for (; position < wanted; position++) {
      before = columnEnd(message, before);
      after = columnEnd(message, after);
    }
    if (message[after] === columnTag.unchanged) continue;
    const [endBefore, endAfter] = [columnEnd(message, before), columnEnd(message, after)];
    if (message.compare(message, before, endBefore, after, endAfter) !== 0) return false;
  }
  return true;
}

/** The offset behind the column that starts at `at`. */
export function columnEnd(message: Buffer, at: number): number {
  const kind = message[at];
  return kind === columnTag.binary || kind === columnTag.text ? at + 5 + message.readUInt32BE(at + 1) : at + 1;
}

/** One text for a row of a table. */
export function rowName(schema: string, table: string, key: string): string {
  return `${schema}\0${table}\0${key}`;
}
