// A sealed member of a pack on its way into the zip, and what the manifest lists of it. Never hashes the whole of it: its
// payload is authenticated as it is, and which payload it is says its head, which nobody makes twice.
import { createHash } from "node:crypto";
import type { MasterKey } from "../trust/key.ts";
import { encrypt } from "./age.ts";
import type { Member } from "./manifest.ts";
import type { PackWriter } from "./zip_writer.ts";

/** Encrypts `content` to the key, into the zip. Resolves to what the manifest says of it. */
export async function addSealed(
  zip: PackWriter,
  name: string,
  key: MasterKey,
  content: AsyncIterable<Uint8Array>,
): Promise<Member> {
  let size = 0;
  let head: { readonly head: number; readonly sha256: string } | undefined;
  const sealed = async function* () {
    for await (const chunk of encrypt(key, content)) {
      head ??= { head: chunk.length, sha256: createHash("sha256").update(chunk).digest("hex") };
      size += chunk.length;
      yield chunk;
    }
  };
  await zip.add(name, sealed());
  return { name, size, ...head! };
}
