// The age format around streams (https://age-encryption.org/v1), so that a public tool opens a pack's members.
// Never invents a key: both directions derive it from the master key.
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
  yield* fromWebStream(await decrypter.decrypt(toWebStream(cipher)));
}

/** True where the error says that the age header is for another key (and not that something was altered). */
export function isOtherKey(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith("no identity matched");
}
