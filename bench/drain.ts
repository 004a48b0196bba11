// The reader of bench/limit.ts: takes a slot's stream as hapair's relay does, steps from frame to frame and keeps nothing.
// Prints where the last commit that it has seen ends, whenever that has moved.
import { Buffer } from "node:buffer";
import process from "node:process";
import { slotName } from "../agent/change/marks.ts";
import { tag } from "../agent/change/pgoutput.ts";
import type { Target } from "../agent/postgres/connect.ts";
import { startSession } from "../agent/wal/session.ts";

const tellEveryMs = 5;
/** Behind the frame's own head and XLogData's is the message: a commit's tag, flags, its LSN, then its end. */
const [messageAt, endAt, commitBytes] = [30, 30 + 2 + 8, 30 + 2 + 24];

/** Steps over the frames of the chunks; only what a chunk cuts is put together. */
class Walker {
  position = 0n;
  private rest: Buffer | null = null;

  take(chunk: Buffer): void {
    if (this.rest) {
      chunk = Buffer.concat([this.rest, chunk]);
      this.rest = null;
    }
    let at = 0;
    while (chunk.length - at >= 5) {
      const end = at + 1 + chunk.readInt32BE(at + 1);
      if (end > chunk.length) break;
      if (end - at === commitBytes && chunk[at + 5] === 0x77 && chunk[at + messageAt] === tag.commit) {
        this.position = chunk.readBigUInt64BE(at + endAt);
      }
      at = end;
    }
    if (at < chunk.length) this.rest = chunk.subarray(at);
  }
}

const walker = new Walker();
const session = await startSession(JSON.parse(process.argv[2]) as Target, slotName, 0n, (chunk) => walker.take(chunk));
let told = 0n;
setInterval(() => {
  if (walker.position === told) return;
  told = walker.position;
  console.log(String(told));
}, tellEveryMs);
const ended = await session.ended;
throw ended ?? new Error("Cannot drain the slot: its stream has ended");
