// A pack or a backup of a few files, made without a server: by the agent's own writer, so that it opens; or by one who has the
// key and puts something else into it.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { packTar } from "modern-tar";
import { manifestMac, memberNames, type PackManifest } from "../../agent/pack/manifest.ts";
import { addSealed } from "../../agent/pack/sealed_member.ts";
import { writeZip } from "../../agent/pack/zip_writer.ts";
import type { MasterKey } from "../../agent/trust/key.ts";
import { manifestOf } from "./pack_manifest.ts";

export const sha256 = (bytes: string | Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** PostgreSQL's backup manifest with its own checksum. */
export function backupManifestOf(files: Readonly<Record<string, string>>): Buffer {
  return sealed(JSON.stringify({
    "PostgreSQL-Backup-Manifest-Version": 1,
    Files: Object.entries(files).map(([Path, content]) => ({
      Path,
      Size: content.length,
      "Checksum-Algorithm": "SHA256",
      Checksum: sha256(content),
    })),
    "WAL-Ranges": [{ Timeline: 1, "Start-LSN": "0/100028", "End-LSN": "0/100120" }],
  }));
}

/** Any document as a backup manifest whose checksum is right. */
export function sealed(document: string): Buffer {
  const head = document.slice(0, -1) + ",\n";
  return Buffer.from(`${head}"Manifest-Checksum": "${sha256(head)}"}\n`);
}

const files = { PG_VERSION: "18\n", "base/1/1259": "x".repeat(9000), backup_label: "START\n" };
export const walName = "pg_wal/000000010000000000000001";

export async function tarOf(): Promise<Uint8Array> {
  return await packTar([
    { header: { name: "base/1/", size: 0, type: "directory" } },
    ...Object.entries(files).map(([name, body]) => ({
      header: { name, size: body.length, type: "file" as const },
      body,
    })),
    { header: { name: walName, size: 1 << 20, type: "file" }, body: new Uint8Array(1 << 20) },
  ]);
}

export const sharedPart = { rules: "", settings: { max_connections: "100" } };

export interface Parts {
  readonly tar: Uint8Array;
  readonly backupManifest: Uint8Array;
  readonly pair: Uint8Array;
  readonly manifest: (right: PackManifest) => string;
}

export async function partsOf(): Promise<Parts> {
  return {
    tar: await tarOf(),
    backupManifest: backupManifestOf(files),
    pair: Buffer.from(JSON.stringify(sharedPart)),
    manifest: (right) => JSON.stringify(right, null, 2),
  };
}

/** Writes a backup of these parts, all sums and codes right. */
export async function writeSmallPack(file: string, key: MasterKey, parts: Parts): Promise<void> {
  const zip = await writeZip(file);
  const members: PackManifest["members"] = [];
  const contents = [[memberNames.data, parts.tar], [memberNames.backupManifest, parts.backupManifest], [
    memberNames.pair,
    parts.pair,
  ]] as const;
  for (const [name, content] of contents) members.push(await addSealed(zip, name, key, once(content)));
  const bytes = Buffer.from(parts.manifest(manifestOf(members, { backup: { node: "a", role: "primary" } })));
  await zip.add(memberNames.manifest, once(bytes));
  await zip.add(memberNames.mac, once(Buffer.from(manifestMac(key, bytes) + "\n")));
  await zip.commit();
}

export async function* once(bytes: Uint8Array, size = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}
