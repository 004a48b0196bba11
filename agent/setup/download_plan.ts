// What a download asks for, and what an answer means for what is there already. Pure. Bytes of two versions of a pack are
// never put together: a tag names the version, and what is not of the same one is dropped.
import { z } from "zod";

/** What lies beside a download that is not finished: which version of the pack its beginning is of. */
export const downloadNote = z.strictObject({
  etag: z.string().regex(/^"[\x21\x23-\x7e]{1,200}"$/),
  total: z.number().int().min(1),
});
export type DownloadNote = z.infer<typeof downloadNote>;

export interface Present extends DownloadNote {
  /** How much of it is there. */
  readonly bytes: number;
}

export interface Ask {
  readonly from: number;
  readonly headers: Record<string, string>;
}

/** At least the last byte is always asked for: the answer tells whether the rest is still of the newest pack. */
export function askFor(present: Present | null): Ask {
  if (present === null || present.bytes === 0) return { from: 0, headers: {} };
  const from = Math.min(present.bytes, present.total - 1);
  return { from, headers: { range: `bytes=${from}-`, "if-range": present.etag } };
}

export interface Answer {
  readonly status: number;
  readonly etag: string | undefined;
  readonly contentLength: string | undefined;
  readonly contentRange: string | undefined;
}

/** Where the bytes of the answer go, and what they are of. Null where it does not fit what was asked for. */
export function readAnswer(
  ask: Ask,
  present: Present | null,
  answer: Answer,
): (DownloadNote & { from: number }) | null {
  const note = (total: number) => {
    const checked = downloadNote.safeParse({ etag: answer.etag, total });
    return checked.success ? checked.data : null;
  };
  if (answer.status === 200) {
    const whole = /^\d{1,15}$/.test(answer.contentLength ?? "") ? note(Number(answer.contentLength)) : null;
    return whole && { ...whole, from: 0 };
  }
  const range = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(answer.contentRange ?? "");
  if (answer.status !== 206 || !range || present === null) return null;
  const [start, last, total] = range.slice(1).map(Number);
  const rest = note(total);
  const fits = rest && start === ask.from && last === total - 1 && rest.etag === present.etag &&
    total === present.total;
  return fits ? { ...rest, from: start } : null;
}

const firstMs = 500;
const mostMs = 15_000;

/** How long to wait after so many failures in a row, the first being 1. */
export function backoffMs(failures: number): number {
  return Math.min(firstMs * 2 ** (failures - 1), mostMs);
}
