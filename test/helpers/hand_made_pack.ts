// Packs made by hand, without a server: whole ones, and any that is wrong in one respect though sealed with the right key.
// Knows the format, so that what the agent makes of it is not its own proof.
import { Buffer } from "node:buffer";
import { writeFileSync } from "node:fs";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipWriter } from "@zip.js/zip.js";
import { packTar, type TarEntry } from "modern-tar";
import { encrypt } from "../../agent/pack/age.ts";
import { manifestMac } from "../../agent/pack/manifest.ts";
import { collect } from "../../agent/pack/streams.ts";
import type { MasterKey } from "../../agent/trust/key.ts";
import { manifestOf } from "./pack_manifest.ts";
import { once, sealed, sha256 } from "./small_pack.ts";

/** What PostgreSQL would list; WAL is not. */
export type Listed = Record<string, { size: number; sha256: string }>;

export const file = (name: string, body: string | Uint8Array): TarEntry => ({
  header: { name, size: body.length, type: "file" },
  body,
});

export const files: TarEntry[] = [
  file("PG_VERSION", "18\n"),
  file("base/1/1259", Buffer.alloc(9000, "x")),
  file("backup_label", "START\n"),
];
export const wal = file("pg_wal/000000010000000000000001", new Uint8Array(1 << 20));

export function listOf(entries: readonly TarEntry[]): Listed {
  return Object.fromEntries(entries.map(({ header, body }) => {
    const bytes = Buffer.from(body as Uint8Array | string);
    return [header.name, { size: bytes.length, sha256: sha256(bytes) }];
  }));
}

export function backupManifest(listed: Listed): Buffer {
  return sealed(JSON.stringify({
    "PostgreSQL-Backup-Manifest-Version": 1,
    Files: Object.entries(listed).map(([Path, { size, sha256 }]) => ({
      Path,
      Size: size,
      "Checksum-Algorithm": "SHA256",
      Checksum: sha256,
    })),
    "WAL-Ranges": [{ Timeline: 1, "Start-LSN": "0/100028", "End-LSN": "0/100120" }],
  }));
}

export interface PackParts {
  readonly tar?: Uint8Array;
  readonly listed?: Listed;
  /** Fields of manifest.json that differ. */
  readonly manifest?: Record<string, unknown>;
  readonly pair?: unknown;
  /** The older one lists the SHA-256 of whole members. */
  readonly format?: 1 | 2;
}

/** What age puts before a payload: its header, whose last line begins with ---, and a nonce. */
const headOf = (bytes: Buffer) => bytes.subarray(0, bytes.indexOf("\n", bytes.indexOf("\n---") + 1) + 1 + 16);

export const pairPart = {
  primary_certificate: "-----BEGIN CERTIFICATE-----\n",
  join: { cert: "-----BEGIN CERTIFICATE-----\n", key: "-----BEGIN PRIVATE KEY-----\n" },
  rules: "",
  settings: {},
};

/** The members of a pack, sealed and listed with the key. */
export async function packMembers(key: MasterKey, parts: PackParts = {}): Promise<Map<string, Buffer>> {
  const sealed = async (bytes: Uint8Array) => await collect(encrypt(key, once(bytes)), 1 << 26, "member");
  const members = new Map([
    ["data.tar.age", await sealed(parts.tar ?? await packTar([...files, wal]))],
    ["backup_manifest.age", await sealed(backupManifest(parts.listed ?? listOf(files)))],
    ["pair.json.age", await sealed(Buffer.from(JSON.stringify(parts.pair ?? pairPart)))],
  ]);
  const version = parts.format ?? 2;
  const listed = [...members].map(([name, bytes]) => {
    const head = headOf(bytes);
    const sum = version === 1 ? { sha256: sha256(bytes) } : { head: head.length, sha256: sha256(head) };
    return { name, size: bytes.length, ...sum };
  });
  const manifest = Buffer.from(JSON.stringify({ ...manifestOf(listed), version, ...parts.manifest }));
  members.set("manifest.json", manifest);
  members.set("manifest.mac", Buffer.from(manifestMac(key, manifest) + "\n"));
  return members;
}

export interface ZipMember {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly options?: { level?: number; directory?: boolean; password?: string; unixMode?: number };
}

/** Names may be anything, and the same twice. */
export async function zipOf(members: readonly ZipMember[]): Promise<Buffer> {
  const zip = new ZipWriter(new Uint8ArrayWriter(), { keepOrder: true, zip64: true, useWebWorkers: false });
  const twice = new Map<string, string>();
  for (const [n, { name, bytes, options }] of members.entries()) {
    // The writer refuses a name that it has had, or that leaves the folder: it gets its name in the bytes afterwards.
    const written = `${n}`.padStart(name.length, "~").slice(-name.length);
    twice.set(written, name);
    await zip.add(written, options?.directory ? undefined : new Uint8ArrayReader(bytes), { level: 0, ...options });
  }
  const bytes = Buffer.from(await zip.close());
  for (const [written, name] of twice) {
    for (let at = bytes.indexOf(written); at >= 0; at = bytes.indexOf(written, at + 1)) bytes.write(name, at, "latin1");
  }
  return bytes;
}

export const membersOf = (members: ReadonlyMap<string, Uint8Array>): ZipMember[] =>
  [...members].map(([name, bytes]) => ({ name, bytes }));

export async function writePack(path: string, key: MasterKey, parts: PackParts = {}): Promise<void> {
  writeFileSync(path, await zipOf(membersOf(await packMembers(key, parts))));
}
