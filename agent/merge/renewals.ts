// Which rows carry a version of the primary's that a verdict has renewed: towards later changes of the secondary it
// counts as written at the verdict's position. Known from the applier as it writes a verdict, and from the stream, which
// may lag behind and, in a session that begins anew, brings verdicts once more. Never forgets one for an older one.
import type { Lsn } from "../change/lsn.ts";

/** A verdict that was written and has not come by in the stream. */
interface Awaited {
  renews: boolean;
  time: bigint | null;
}

export class Renewals {
  /** Row -> the last verdict about it, as the stream told it. */
  private readonly noted = new Map<string, Awaited & { position: number }>();
  private readonly awaited = new Map<string, Awaited[]>();
  /** Those of the transaction that the applier has open. */
  private readonly open = new Map<string, Awaited>();
  /** How far the stream's verdicts are noted, and the rows of the last transaction with any. */
  private notedTo = 0;
  private readonly last = new Set<string>();

  /**
   * The applier decides about a row, in its open transaction; the last word of a transaction is the one that is sent.
   * `time`: when the primary's part of a merged row was written (µs since 2000); null where that is the row's own time.
   */
  decide(row: string, renews: boolean, time: bigint | null = null): void {
    const known = this.open.get(row);
    if (known) {
      known.renews = renews;
      known.time = time;
      return;
    }
    const added = { renews, time };
    this.open.set(row, added);
    const queue = this.awaited.get(row);
    if (queue) queue.push(added);
    else this.awaited.set(row, [added]);
  }

  /** What the open transaction decided about the row is given up, before a verdict was written. */
  withdraw(row: string): void {
    const gone = this.open.get(row);
    if (!gone) return;
    this.open.delete(row);
    this.leaveQueue(row, gone);
  }

  private leaveQueue(row: string, gone: Awaited): void {
    const left = (this.awaited.get(row) ?? []).filter((each) => each !== gone);
    if (left.length > 0) this.awaited.set(row, left);
    else this.awaited.delete(row);
  }

  /** The open transaction has committed. */
  committed(): void {
    this.open.clear();
  }

  get undecided(): boolean {
    return this.open.size > 0;
  }

  /** The open transaction is gone; whatever did commit has come by in the stream. */
  rolledBack(): void {
    for (const [row, gone] of this.open) this.leaveQueue(row, gone);
    this.open.clear();
  }

  /** A verdict comes by in the stream, in a transaction that ends at `lsn`. */
  note(row: string, renews: boolean, lsn: Lsn, time: bigint | null = null): void {
    const position = Number(lsn);
    if (position < this.notedTo || (position === this.notedTo && this.last.has(row))) return;
    if (position > this.notedTo) this.last.clear();
    this.notedTo = position;
    this.last.add(row);
    const queue = this.awaited.get(row);
    const first = queue?.shift();
    // Its commit was not told of, only the stream tells.
    if (first && this.open.get(row) === first) this.open.delete(row);
    if (queue?.length === 0) this.awaited.delete(row);
    this.noted.set(row, { position, renews, time });
  }

  /** Had the writer of a peer's change that carries `seen` not yet seen the verdict that renewed the row? */
  isUnseen(row: string, seen: Lsn): boolean {
    return this.lastUnseen(row, seen)?.renews ?? false;
  }

  /**
   * The last verdict about the row, of whatever kind, if the writer of a peer's change that carries `seen` had not yet seen
   * it. What his change leaves out may be other there than here.
   */
  lastUnseen(row: string, seen: Lsn): { readonly renews: boolean; readonly time: bigint | null } | null {
    const awaited = this.awaited.get(row);
    if (awaited) return awaited.at(-1)!;
    const noted = this.noted.get(row);
    return noted && noted.position > Number(seen) ? noted : null;
  }

  /** When the primary's part of a renewed row was written, if the row was merged of both sides' versions. */
  timeOf(row: string): bigint | null {
    return (this.awaited.get(row)?.at(-1) ?? this.noted.get(row))?.time ?? null;
  }

  /** Is anything known that has not been pruned? */
  get empty(): boolean {
    return this.noted.size === 0 && this.awaited.size === 0;
  }

  /** The renewed rows whose names begin so, and whose verdicts a change carrying `seen` had not seen. */
  unseenRows(prefix: string, seen: Lsn): string[] {
    const names = [...this.noted.keys(), ...this.awaited.keys()].filter((name) => name.startsWith(prefix));
    return [...new Set(names)].filter((name) => this.isUnseen(name, seen));
  }

  prune(seen: Lsn): void {
    for (const [row, { position }] of this.noted) if (position <= Number(seen)) this.noted.delete(row);
  }
}
