// What the relay has to send, as parts of the chunks that it was read in: frames that lie side by side are one part.
// Copies only where it must: what lies in one chunk is handed over as a slice of it.
import { Buffer } from "node:buffer";

interface Part {
  readonly chunk: Buffer;
  start: number;
  end: number;
}

export class Outbox {
  private parts: Part[] = [];
  private last: Part | null = null;
  /** How much waits. */
  bytes = 0;

  /** Adds the bytes of `chunk` from `start` up to `end`. */
  add(chunk: Buffer, start: number, end: number): void {
    const { last } = this;
    if (last && last.chunk === chunk && last.end === start) last.end = end;
    else this.parts.push(this.last = { chunk, start, end });
    this.bytes += end - start;
  }

  /** Takes no more than `most` bytes out; the rest stays. A cut within a frame is as good as any. */
  take(most: number): Buffer {
    let count = 0;
    let bytes = 0;
    while (count < this.parts.length && bytes + lengthOf(this.parts[count]) <= most) {
      bytes += lengthOf(this.parts[count++]);
    }
    const taken = this.parts.splice(0, count);
    const cut = this.parts.at(0);
    if (cut && bytes < most) {
      const middle = cut.start + most - bytes;
      taken.push({ chunk: cut.chunk, start: cut.start, end: middle });
      bytes = most;
      cut.start = middle;
    }
    if (this.parts.length === 0) this.last = null;
    this.bytes -= bytes;
    if (taken.length === 1) return taken[0].chunk.subarray(taken[0].start, taken[0].end);
    const joined = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const { chunk, start, end } of taken) at += chunk.copy(joined, at, start, end);
    return joined;
  }
}

const lengthOf = ({ start, end }: Part): number => end - start;
