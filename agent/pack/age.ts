// The age format around streams (https://age-encryption.org/v1), so that a public tool opens a pack's members. The library
// makes and reads the header; the payload is sealed by the platform, for speed (age_payload.ts).
// Never invents a key: both directions derive it from the master key.
import { Buffer } from "node:buffer";
import { hkdfSync, randomBytes } from "node:crypto";
import { Decrypter, Encrypter, identityToRecipient } from "age-encryption";
import { ageIdentity, type MasterKey } from "../trust/key.ts";
import { seal, unseal } from "./age_payload.ts";

const nonceBytes = 16;
/** Ours has some 300 bytes. */
const mostHeaderBytes = 16 * 1024;

/** What it yields first is the head: the header and the payload's nonce, which no two members have alike. */
export async function* encrypt(key: MasterKey, plain: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const encrypter = new Encrypter();
  encrypter.addRecipient(await identityToRecipient(ageIdentity(key)));
  // A whole file with nothing in it, of which the header is taken.
  const file = Buffer.from(await encrypter.encrypt(new Uint8Array()));
  const header = file.subarray(0, headerLength(file));
  const nonce = randomBytes(nonceBytes);
  yield Buffer.concat([header, nonce]);
  yield* seal(await payloadKey(key, header, nonce), plain);
}

/** Yields authenticated plain text only; throws in the middle where a chunk was altered or the end is missing. */
export async function* decrypt(key: MasterKey, cipher: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks = cipher[Symbol.asyncIterator]();
  let begin = Buffer.alloc(0);
  try {
    let length: number | undefined;
    while (true) {
      length = headerLength(begin);
      if ((length ?? begin.length) > mostHeaderBytes) {
        throw new Error(`its header does not end within ${mostHeaderBytes} bytes`);
      }
      if (length !== undefined && begin.length >= length + nonceBytes) break;
      const { done, value } = await chunks.next();
      if (done) throw new Error("it ends within its header");
      begin = Buffer.concat([begin, value]);
    }
    const nonce = begin.subarray(length, length + nonceBytes);
    const rest = begin.subarray(length + nonceBytes);
    yield* unseal(await payloadKey(key, begin.subarray(0, length), nonce), after(rest, chunks));
  } finally {
    await chunks.return?.();
  }
}

/** True where the error says that the age header is for another key (and not that something was altered). */
export function isOtherKey(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("no identity matched");
}

/** Authenticates the header with the key. */
async function payloadKey(key: MasterKey, header: Uint8Array, nonce: Uint8Array): Promise<Uint8Array> {
  const decrypter = new Decrypter();
  decrypter.addIdentity(ageIdentity(key));
  const fileKey = await decrypter.decryptHeader(Uint8Array.from(header));
  return new Uint8Array(hkdfSync("sha256", fileKey, nonce, "payload", 32));
}

/** The header ends with the line of its authentication code. Undefined while that line is not there. */
function headerLength(file: Buffer): number | undefined {
  const last = file.indexOf("\n--- ");
  const end = last < 0 ? -1 : file.indexOf("\n", last + 1);
  return end < 0 ? undefined : end + 1;
}

async function* after(first: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first;
  while (true) {
    const { done, value } = await rest.next();
    if (done) return;
    yield value;
  }
}
