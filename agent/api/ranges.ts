// Which bytes of a file an HTTP request wants (RFC 9110, 14). Pure. A range counts only for the version that the caller has
// the beginning of: bytes of two versions are never put together.
export type Wanted =
  | { readonly status: 200; readonly start: 0; readonly end: number }
  /** `end` is not included. */
  | { readonly status: 206; readonly start: number; readonly end: number }
  | { readonly status: 416 };

export interface RangeHeaders {
  readonly range?: string;
  readonly ifRange?: string;
}

/** One range at most; what is not understood, or asks for several, is answered with the whole, as the RFC allows. */
export function wantedBytes({ range, ifRange }: RangeHeaders, file: { size: number; etag: string }): Wanted {
  const whole = { status: 200, start: 0, end: file.size } as const;
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(range?.trim() ?? "");
  // A weak tag or a date vouches for nothing here.
  if (!match || (ifRange !== undefined && ifRange !== file.etag)) return whole;
  const [from, to] = [match[1], match[2]];
  if (from === "" && to === "") return whole;
  if (from === "") {
    const length = Math.min(Number(to), file.size);
    return length === 0 ? { status: 416 } : { status: 206, start: file.size - length, end: file.size };
  }
  const start = Number(from);
  if (to !== "" && Number(to) < start) return whole;
  if (start >= file.size) return { status: 416 };
  return { status: 206, start, end: to === "" ? file.size : Math.min(Number(to) + 1, file.size) };
}
