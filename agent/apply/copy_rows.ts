// pgoutput tuples -> rows of COPY BINARY: the columns' bytes are moved, not decoded.
// https://www.postgresql.org/docs/current/sql-copy.html (Binary Format)
import { Buffer } from "node:buffer";
import { columnTag, DecodeError } from "../change/pgoutput.ts";
import { columnEnd } from "../change/row_key.ts";
import type { TypeDescription } from "../postgres/catalog.ts";
import { rewriteOids } from "./oid_rewrite.ts";
import type { ColumnPlan } from "./plan.ts";

/** A tuple within its message; a column that it leaves unchanged is taken from `base`, an earlier version of the row. */
export interface Row {
  readonly message: Buffer;
  readonly at: number;
  readonly base: Row | null;
}

const header = Buffer.from([...Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"), 0, 0, 0, 0, 0, 0, 0, 0]);
const chunkBytes = 256 * 1024;
/** So many chunks are kept for being filled again: memory that is new to the process costs more than what is put into it. */
const keptChunks = 8;
const kept: Buffer[] = [];

const takeChunk = (): Buffer => kept.pop() ?? Buffer.allocUnsafe(chunkBytes);

/** Collects rows and hands them to `write` in large chunks. */
export class CopyRows {
  private out = takeChunk();
  private used = 0;

  /** `write` owns the chunk it gets until it calls `done`; it need not. */
  constructor(
    private readonly types: ReadonlyMap<number, TypeDescription>,
    private readonly write: (chunk: Buffer, done: () => void) => void,
  ) {
    header.copy(this.out);
    this.used = header.length;
  }

  /** Starts a row of `count` fields. */
  startRow(count: number): void {
    this.reserve(2);
    this.out.writeInt16BE(count, this.used);
    this.used += 2;
  }

  addInt4(value: number): void {
    this.reserve(8);
    this.out.writeInt32BE(4, this.used);
    this.out.writeInt32BE(value, this.used + 4);
    this.used += 8;
  }

  addBoolean(value: boolean): void {
    this.reserve(5);
    this.out.writeInt32BE(1, this.used);
    this.out[this.used + 4] = value ? 1 : 0;
    this.used += 5;
  }

  /**
   * Adds those columns of the row that `wanted` lists, in their order in the tuple. Unchanged columns without a base
   * become NULL. Throws DecodeError when a column comes in another format than planned.
   */
  addColumns(row: Row, wanted: readonly ColumnPlan[]): void {
    const { message } = row;
    let at = row.at + 2;
    let position = 0;
    for (const column of wanted) {
      for (; position < column.position; position++) at = columnEnd(message, at);
      const kind = message[at];
      if (kind === columnTag.binary || kind === columnTag.text) {
        if ((kind === columnTag.binary) !== column.binary) {
          throw new DecodeError(`Cannot apply: column ${column.name} came in an unexpected format`);
        }
        const end = at + 5 + message.readUInt32BE(at + 1);
        if (column.rewrite) this.addBytes(rewriteOids(message.subarray(at + 5, end), column.rewrite, this.types));
        else this.addRaw(message, at + 1, end);
        at = end;
      } else {
        at++;
        const base = kind === columnTag.unchanged ? carrierOf(row.base, column) : null;
        if (base) this.addColumns(base, [column]);
        else this.addNull();
      }
      position++;
    }
  }

  /** Hands over what is left, with the trailer. */
  end(): void {
    this.reserve(2);
    this.out.writeInt16BE(-1, this.used);
    this.used += 2;
    this.flush();
    if (this.out.length === chunkBytes && kept.length < keptChunks) kept.push(this.out);
  }

  private addNull(): void {
    this.reserve(4);
    this.out.writeInt32BE(-1, this.used);
    this.used += 4;
  }

  private addBytes(value: Buffer): void {
    this.reserve(4);
    this.out.writeInt32BE(value.length, this.used);
    this.used += 4;
    this.addRaw(value, 0, value.length);
  }

  /** Length and bytes lie side by side in pgoutput just as COPY wants them. */
  private addRaw(from: Buffer, start: number, end: number): void {
    const length = end - start;
    this.reserve(length);
    const { out } = this;
    let used = this.used;
    // A call into the runtime costs more than moving a few bytes by hand.
    if (length <= 24) { for (let i = start; i < end; i++) out[used++] = from[i]; }
    else from.copy(out, used, start, end);
    this.used += length;
  }

  private reserve(bytes: number): void {
    if (this.used + bytes <= this.out.length) return;
    this.flush();
    if (bytes > this.out.length) this.out = Buffer.allocUnsafe(bytes + chunkBytes);
  }

  private flush(): void {
    const { out, used } = this;
    if (used === 0) return;
    this.out = takeChunk();
    this.used = 0;
    this.write(out.subarray(0, used), () => {
      if (out.length === chunkBytes && kept.length < keptChunks) kept.push(out);
    });
  }
}

/** The newest of a row's earlier versions that carries the column. */
function carrierOf(row: Row | null, column: ColumnPlan): Row | null {
  for (; row; row = row.base) {
    let at = row.at + 2;
    for (let position = 0; position < column.position; position++) at = columnEnd(row.message, at);
    if (row.message[at] !== columnTag.unchanged) return row;
  }
  return null;
}
