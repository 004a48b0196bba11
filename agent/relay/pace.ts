// When the relay rests. The walsender sends every message by itself and wakes whoever waits for it; taking each by itself
// costs the primary more than the decoding. So where many come the relay rests for a moment and then takes all there is,
// unless the walsender fills a good part of the socket meanwhile. Pure; knows no clock.

const windowMs = 10;
/** Messages within a window that count as many: 200 small transactions a second are fewer, and are taken at once. */
const many = 32;
const restMs = 1;
/** The socket takes some 270 messages; a walsender that fills this much of it in a rest must not be kept waiting. */
const fullMessages = 100;
/** For so many chunks there is no rest after one was full. */
const busyChunks = 500;

export class Pace {
  private windowStart = 0;
  private inWindow = 0;
  private before = 0;
  private busy = 0;

  /** So many messages have come at `now` (ms): how long to rest before the next ones are taken, 0 for not at all. */
  rest(now: number, messages: number): number {
    const windows = Math.floor((now - this.windowStart) / windowMs);
    if (windows > 0) {
      this.before = windows === 1 ? this.inWindow : 0;
      this.inWindow = 0;
      this.windowStart += windows * windowMs;
    }
    this.inWindow += messages;
    if (messages >= fullMessages) this.busy = busyChunks;
    if (this.busy > 0) {
      this.busy--;
      return 0;
    }
    return Math.max(this.before, this.inWindow) > many ? restMs : 0;
  }
}
