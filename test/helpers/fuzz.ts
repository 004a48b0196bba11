// What the fuzz tests share: how many inputs, how valid bytes are spoilt, and what may come of it. FUZZ_TIMES multiplies the
// number of inputs (1 in the gate); fast-check prints the seed and the smallest input of a failure.
import { Buffer } from "node:buffer";
import process from "node:process";
import fc from "fast-check";
import { AgentError } from "../../agent/errors.ts";

const times = Number(process.env.FUZZ_TIMES ?? 1);
let inputs = 0;

process.on("exit", () => {
  if (times !== 1) {
    console.log(`fuzz: ${inputs} inputs in ${process.argv.find((arg) => arg.includes("fuzz_")) ?? "all"}`);
  }
});

/** `{ numRuns }` for fast-check; `modest` inputs take a second or two. */
export function runs(modest: number): { numRuns: number } {
  return { numRuns: Math.ceil(modest * times) };
}

/** Counts an input that was tried. */
export function tried(): void {
  inputs++;
}

/** How bytes are spoilt: one value set, a piece cut out, doubled or put in, a length overwritten, an end cut off. */
type Spoiling =
  | { readonly kind: "set"; readonly at: number; readonly value: number }
  | { readonly kind: "flip"; readonly at: number; readonly bit: number }
  | { readonly kind: "length"; readonly at: number; readonly value: number; readonly little: boolean }
  | { readonly kind: "cut" | "double" | "zero"; readonly at: number; readonly size: number }
  | { readonly kind: "insert"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: "end"; readonly at: number };

const place = fc.nat(0x7fffffff);
const lengths = fc.constantFrom(
  0,
  1,
  3,
  4,
  5,
  0x7f,
  0xff,
  0xffff,
  0x10000,
  0x7ffffffe,
  0x7fffffff,
  0x80000000,
  0xffffffff,
);
const spoiling: fc.Arbitrary<Spoiling> = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), at: place, value: fc.nat(255) }),
  fc.record({ kind: fc.constant("flip" as const), at: place, bit: fc.nat(7) }),
  fc.record({ kind: fc.constant("length" as const), at: place, value: lengths, little: fc.boolean() }),
  fc.record({
    kind: fc.constantFrom("cut" as const, "double" as const, "zero" as const),
    at: place,
    size: fc.nat(700),
  }),
  fc.record({ kind: fc.constant("insert" as const), at: place, bytes: fc.uint8Array({ maxLength: 40 }) }),
  fc.record({ kind: fc.constant("end" as const), at: place }),
);

function spoil(bytes: Buffer, how: Spoiling): Buffer {
  const at = bytes.length === 0 ? 0 : how.at % bytes.length;
  const head = bytes.subarray(0, at);
  switch (how.kind) {
    case "set":
    case "flip": {
      const copy = Buffer.from(bytes);
      if (copy.length > 0) copy[at] = how.kind === "set" ? how.value : copy[at] ^ (1 << how.bit);
      return copy;
    }
    case "length": {
      const copy = Buffer.from(bytes);
      if (at + 4 <= copy.length) how.little ? copy.writeUInt32LE(how.value, at) : copy.writeUInt32BE(how.value, at);
      return copy;
    }
    case "cut":
      return Buffer.concat([head, bytes.subarray(at + how.size)]);
    case "double":
      return Buffer.concat([bytes.subarray(0, at + how.size), bytes.subarray(at)]);
    case "zero":
      return Buffer.concat([head, Buffer.alloc(Math.min(how.size, bytes.length - at)), bytes.subarray(at + how.size)]);
    case "insert":
      return Buffer.concat([head, how.bytes, bytes.subarray(at)]);
    case "end":
      return head;
  }
}

/** One of `samples`, spoilt in one to four ways. */
export function spoilt(...samples: readonly Uint8Array[]): fc.Arbitrary<Buffer> {
  return fc.tuple(fc.nat(samples.length - 1), fc.array(spoiling, { minLength: 1, maxLength: 4 }))
    .map(([which, ways]) => ways.reduce(spoil, Buffer.from(samples[which])));
}

/** The same of texts, with words of a grammar put in. */
export function spoiltText(samples: readonly string[], words: readonly string[]): fc.Arbitrary<string> {
  const bytes = spoilt(...samples.map((text) => Buffer.from(text))).map((found) => found.toString("utf8"));
  const mixed = fc.tuple(
    fc.constantFrom(...samples),
    fc.array(fc.tuple(place, fc.nat(30), fc.constantFrom(...words)), { minLength: 1, maxLength: 4 }),
  ).map(([text, puts]) =>
    puts.reduce((now, [where, size, word]) => {
      const at = where % (now.length + 1);
      return now.slice(0, at) + word + now.slice(at + size);
    }, text)
  );
  return fc.oneof(bytes, mixed);
}

/** What of a home or of a database must never be told to anybody. */
export const secrets = ["s3cret-pass", "PRIVATE KEY", "AGE-SECRET-KEY"];

/** An error as the command line shows it: both lines there, each one line, no secret, no stack. */
export function isProper(error: unknown): error is AgentError {
  if (!(error instanceof AgentError)) return false;
  const { message, remedy } = error;
  const oneLine = (text: string) => text.length > 0 && !/[\r\n]/.test(text) && !/\bat .+:\d+:\d+/.test(text);
  return /^Cannot /.test(message) && oneLine(message) && oneLine(remedy) &&
    !secrets.some((secret) => message.includes(secret) || remedy.includes(secret));
}

/** Runs `act`: it may succeed, or fail with a proper error; anything else is thrown on. */
export async function onlyProper(act: () => unknown): Promise<void> {
  tried();
  try {
    await act();
  } catch (error) {
    if (!isProper(error)) throw new Error(`not a proper error: ${String(error)}`, { cause: error });
  }
}
