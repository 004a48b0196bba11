// What the relay has to send, as parts of the chunks that it was read in: frames that lie side by side are one part.
// Copies only where it must: what lies in one chunk is handed over as a slice of it.
import { Buffer } from "node:buffer";

interface Part {
  readonly chunk: Buffer;
  readonly start: number;
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

  /** Empties it. */
  take(): Buffer {
    const { parts, bytes } = this;
    this.parts = [];
    this.last = null;
    this.bytes = 0;
    if (parts.length === 1) return parts[0].chunk.subarray(parts[0].start, parts[0].end);
    const joined = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const { chunk, start, end } of parts) at += chunk.copy(joined, at, start, end);
    return joined;
  }
}
