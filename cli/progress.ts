// What a long copy shows of itself: how much, how fast, how long yet. Makes text from figures; prints nothing.
import { bytes as sizeOf } from "./words.ts";

/** The rate over the last seconds, so that a stall shows and the beginning is forgotten. */
export class Pace {
  readonly #looks: { at: number; bytes: number }[] = [];

  constructor(private readonly windowMs = 5000) {}

  /** Bytes a second, or null while too little is known. */
  see(at: number, bytes: number): number | null {
    if (bytes < (this.#looks.at(-1)?.bytes ?? 0)) this.#looks.length = 0; // begun anew
    this.#looks.push({ at, bytes });
    while (this.#looks.length > 2 && at - this.#looks[1].at >= this.windowMs) this.#looks.shift();
    const [first] = this.#looks;
    return at - first.at < 200 ? null : (bytes - first.bytes) * 1000 / (at - first.at);
  }
}

/** `120.5 MB of 400.0 MB, 61.0 MB/s, 5 s left`; `total` may be an estimate, or 0. */
export function progressText(bytes: number, total: number, rate: number | null): string {
  const parts = [total > 0 ? `${sizeOf(bytes)} of ${sizeOf(Math.max(total, bytes))}` : sizeOf(bytes)];
  if (rate !== null) parts.push(`${sizeOf(Math.round(rate))}/s`);
  if (rate !== null && rate > 0 && total > bytes) parts.push(`${timeText((total - bytes) / rate)} left`);
  return parts.join(", ");
}

/** `9 s`, `3 min`, `2 h 10 min`: no finer than it can be known. */
export function timeText(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}
