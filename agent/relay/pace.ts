// When the relay rests. The walsender sends every message by itself and wakes whoever waits for it; taking each by itself
// costs the primary more than the decoding. So where many come the relay rests for a moment and then takes all there is:
// much shorter than the walsender needs to fill the socket, so that it never has to wait. Pure; knows no clock.

const windowMs = 10;
/** Messages within a window that count as many: 200 small transactions a second are fewer, and are taken at once. */
const many = 32;
/** The socket takes some 270 messages. From so many in a window on they might fill it in the rest that a timer gives. */
const flood = 1000;
/** What is taken at once after a rest that was long enough: more would be there by now. */
const plenty = 150;
/** A timer's shortest, and one that no timer gives. */
export const rests = { timer: 1, nap: 0.25 };

export class Pace {
  private windowStart = 0;
  private inWindow = 0;
  private before = 0;

  /** So many messages have come at `now` (ms): how long to rest before the next ones are taken, 0 for not at all. */
  rest(now: number, messages: number): number {
    const windows = Math.floor((now - this.windowStart) / windowMs);
    if (windows > 0) {
      this.before = windows === 1 ? this.inWindow : 0;
      this.inWindow = 0;
      this.windowStart += windows * windowMs;
    }
    this.inWindow += messages;
    const inWindow = Math.max(this.before, this.inWindow);
    if (inWindow <= many || messages >= plenty) return 0;
    return inWindow <= flood ? rests.timer : rests.nap;
  }
}
