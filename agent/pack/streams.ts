// Small joints between node's streams, web streams and async iteration, all with back-pressure.
// Nothing here may hold more than a chunk or two, but for what a server pushes, and that within its bound.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";

/** So much may wait for its reader, so that who makes it need not stop at every chunk. */
const mostQueuedBytes = 1 * 1024 * 1024;

/**
 * The chunks of a node stream one by one, as they were pushed. (Iterating over the stream itself may join chunks, and
 * with replication messages the borders are the meaning.)
 */
export async function* pushedChunks(stream: Readable, mostBytes = mostQueuedBytes): AsyncGenerator<Buffer> {
  const queue: Buffer[] = [];
  let queuedBytes = 0;
  let ended = false;
  let failure: Error | null = null;
  let wake = () => {};
  stream.on("data", (chunk: Buffer) => {
    queue.push(chunk);
    queuedBytes += chunk.length;
    if (queuedBytes >= mostBytes) stream.pause();
    wake();
  });
  stream.on("end", () => (ended = true, wake()));
  stream.on("error", (error: Error) => (failure = error, wake()));
  stream.on("close", () => (ended = true, wake()));
  while (true) {
    const chunk = queue.shift();
    if (chunk) {
      queuedBytes -= chunk.length;
      yield chunk;
    } else if (failure) throw failure;
    else if (ended) return;
    else {
      const woken = new Promise<void>((resolve) => wake = resolve);
      stream.resume();
      await woken;
    }
  }
}

/** A web stream that asks the iterator for the next chunk only when its reader wants one. */
export function toWebStream(chunks: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await iterator.return?.();
    },
  }, { highWaterMark: 0 });
}

/** The chunks of a web stream; the stream is cancelled when the loop is left early. */
export async function* fromWebStream(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let whole = false;
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) {
        whole = true;
        return;
      }
      yield value;
    }
  } finally {
    // After an error of the stream itself cancel() repeats that error, which is on its way to the caller already.
    if (!whole) await reader.cancel().catch(() => {});
  }
}

/** Turns a producer that pushes into chunks to iterate over; the producer waits until each chunk is taken. */
export class Handover {
  #chunk: Uint8Array | undefined;
  #taken = () => {};
  #wake = () => {};
  #end: { error: unknown } | null = null;
  #left = false;

  put(chunk: Uint8Array): Promise<void> {
    if (this.#left) return Promise.reject(new Error("nobody reads on"));
    return new Promise((resolve) => {
      this.#taken = resolve;
      this.#chunk = chunk;
      this.#wake();
    });
  }

  /** No chunk follows; `error` is thrown to the reader unless it is null. */
  end(error: unknown = null): void {
    this.#end ??= { error };
    this.#wake();
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      while (true) {
        const chunk = this.#chunk;
        if (chunk) {
          this.#chunk = undefined;
          this.#taken();
          yield chunk;
        } else if (this.#end) {
          if (this.#end.error !== null) throw this.#end.error;
          return;
        } else await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      this.#left = true;
      this.#taken();
    }
  }
}

/** Tells how much has passed, after each chunk. */
export async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    onBytes(size);
    yield chunk;
  }
}

/** Counts what passes and hashes it, or only its first `most` bytes. */
export class Meter {
  size = 0;
  readonly #hash = createHash("sha256");

  constructor(private readonly most = Infinity) {}

  async *through(chunks: AsyncIterable<Uint8Array>, onBytes?: (bytes: number) => void): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      this.add(chunk);
      onBytes?.(this.size);
      yield chunk;
    }
  }

  add(chunk: Uint8Array): void {
    const left = this.most - this.size;
    this.size += chunk.length;
    if (left > 0) this.#hash.update(chunk.length > left ? chunk.subarray(0, left) : chunk);
  }

  sha256(): string {
    return this.#hash.digest("hex");
  }
}

export async function collect(chunks: AsyncIterable<Uint8Array>, limitBytes: number, name: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > limitBytes) throw new RangeError(`${name} is larger than ${limitBytes} bytes`);
    parts.push(chunk);
  }
  return Buffer.concat(parts);
}
