// The age format around streams (https://age-encryption.org/v1), so that a public tool opens a pack's members.
// Never invents a key: both directions derive it from the master key.
import { Buffer } from "node:buffer";
import { Decrypter, Encrypter, identityToRecipient } from "age-encryption";
import { ageIdentity, type MasterKey } from "../trust/key.ts";
import { fromWebStream, toWebStream } from "./streams.ts";

export async function* encrypt(key: MasterKey, plain: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const encrypter = new Encrypter();
  encrypter.addRecipient(await identityToRecipient(ageIdentity(key)));
  yield* fromWebStream(await encrypter.encrypt(toWebStream(plain)));
}

/** Yields authenticated plain text only; throws in the middle where a chunk was altered or the end is missing. */
export async function* decrypt(key: MasterKey, cipher: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const decrypter = new Decrypter();
  decrypter.addIdentity(ageIdentity(key));
  const chunks = withShortHeader(cipher);
  try {
    yield* fromWebStream(await decrypter.decrypt(toWebStream(chunks)));
  } finally {
    // After a bad header the library leaves its source as it is, and whoever fills it would wait for ever.
    await chunks.return(undefined);
  }
}

/** Ours has some 300 bytes. */
const mostHeaderBytes = 16 * 1024;

/** The library collects a header until it ends, be that after a terabyte: passes on one that ends in time. */
async function* withShortHeader(cipher: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let head: Buffer | null = Buffer.alloc(0);
  for await (const chunk of cipher) {
    if (head === null) yield chunk;
    else {
      head = Buffer.concat([head, chunk]);
      const mac = head.indexOf("\n--- ");
      const end = mac < 0 ? -1 : head.indexOf("\n", mac + 1);
      if (end < 0 ? head.length > mostHeaderBytes : end > mostHeaderBytes) {
        throw new Error(`its header does not end within ${mostHeaderBytes} bytes`);
      }
      if (end < 0) continue;
      yield head;
      head = null;
    }
  }
  if (head !== null) yield head;
}

/** True where the error says that the age header is for another key (and not that something was altered). */
export function isOtherKey(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("no identity matched");
}
