// The payload of an age file: chunks of 64 KB, each sealed with ChaCha20-Poly1305 by the platform, several at once and in
// order (https://c2sp.org/age, "Payload"). What is yielded on opening is authenticated; no chunk can be missing, moved or
// added, and the last one says that it is the last.
import { webcrypto } from "node:crypto";

const chunkBytes = 64 * 1024;
const tagBytes = 16;
/** So many chunks (2 MB) are with the platform at once: it works beside this thread, and neither waits for the other. */
const atOnce = 32;

type Direction = "encrypt" | "decrypt";
/** The part of WebCrypto that is used here; its types do not know this cipher yet. */
interface Subtle {
  importKey(
    form: "raw-secret",
    key: Uint8Array,
    cipher: { name: string },
    extractable: false,
    use: [Direction],
  ): Promise<object>;
  encrypt(how: { name: string; iv: Uint8Array }, key: object, bytes: Uint8Array): Promise<ArrayBuffer>;
  decrypt(how: { name: string; iv: Uint8Array }, key: object, bytes: Uint8Array): Promise<ArrayBuffer>;
}
const subtle = webcrypto.subtle as unknown as Subtle;
const cipher = "ChaCha20-Poly1305";

export function seal(key: Uint8Array, plain: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  return transform("encrypt", key, pieces(plain, chunkBytes));
}

/** Throws where a chunk was altered or the end is missing. */
export function unseal(key: Uint8Array, sealed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  return transform("decrypt", key, checked(pieces(sealed, chunkBytes + tagBytes)));
}

interface Piece {
  readonly bytes: Uint8Array;
  readonly index: number;
  readonly last: boolean;
}

async function* transform(direction: Direction, rawKey: Uint8Array, source: AsyncIterable<Piece>) {
  const key = await subtle.importKey("raw-secret", rawKey, { name: cipher }, false, [direction]);
  const running: Promise<ArrayBuffer>[] = [];
  for await (const { bytes, index, last } of source) {
    const done = subtle[direction]({ name: cipher, iv: nonceOf(index, last) }, key, bytes);
    done.catch(() => {}); // it is thrown when its turn comes
    running.push(done);
    if (running.length === atOnce) yield await result(running.shift()!);
  }
  for (const done of running) yield await result(done);
}

async function result(done: Promise<ArrayBuffer>): Promise<Uint8Array> {
  try {
    return new Uint8Array(await done);
  } catch (cause) {
    throw new Error("a chunk does not fit its authentication code", { cause });
  }
}

/** Eleven bytes count the chunks; the twelfth marks the last one. */
function nonceOf(index: number, last: boolean): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(3, BigInt(index));
  nonce[11] = last ? 1 : 0;
  return nonce;
}

/**
 * Pieces of exactly `size` bytes, the last one shorter or not; only where there is nothing at all is it empty. All lie in
 * the same memory, one after the other: the platform takes a copy at once, and fresh memory costs more than that.
 */
async function* pieces(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Piece> {
  const bytes = new Uint8Array(size);
  let [used, index] = [0, 0];
  for await (let chunk of source) {
    while (chunk.length > 0) {
      if (used === size) {
        yield { bytes, index: index++, last: false };
        used = 0;
      }
      const taken = chunk.subarray(0, size - used);
      bytes.set(taken, used);
      used += taken.length;
      chunk = chunk.subarray(taken.length);
    }
  }
  yield { bytes: bytes.subarray(0, used), index, last: true };
}

async function* checked(source: AsyncIterable<Piece>): AsyncGenerator<Piece> {
  for await (const piece of source) {
    if (piece.bytes.length < tagBytes) throw new Error("it ends within a chunk");
    if (piece.bytes.length === tagBytes && piece.index > 0) throw new Error("its last chunk is empty");
    yield piece;
  }
}
