// PostgreSQL's backup manifest: parsed, its own checksum verified. Pure.
// https://www.postgresql.org/docs/current/backup-manifest-format.html
// Never accepts a file without a checksum: what it lists is what a restored cluster is compared with.
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { z } from "zod";
import { type Lsn, parseLsn } from "../change/lsn.ts";

/** Packs have CRC-32C; those of earlier versions of the agent SHA-256. */
export type Algorithm = "CRC32C" | "SHA256";
const digits: Readonly<Record<Algorithm, RegExp>> = { CRC32C: /^[0-9a-f]{8}$/, SHA256: /^[0-9a-f]{64}$/ };

export interface BackupFile {
  readonly size: number;
  readonly algorithm: Algorithm;
  /** In hexadecimal digits; a CRC's bytes with the lowest first, as the server has them in memory. */
  readonly checksum: string;
}

export interface BackupManifest {
  readonly files: ReadonlyMap<string, BackupFile>;
  readonly timeline: number;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** The manifest is not one, or not one that this code can vouch for. */
export class BackupManifestError extends Error {}

const schema = z.object({
  "PostgreSQL-Backup-Manifest-Version": z.number().int().min(1).max(2),
  "Files": z.array(z.object({
    "Path": z.string().optional(),
    "Size": z.number().int().min(0),
    "Checksum-Algorithm": z.string().optional(),
    "Checksum": z.string().optional(),
  })),
  "WAL-Ranges": z.array(z.object({
    "Timeline": z.number().int(),
    "Start-LSN": z.string(),
    "End-LSN": z.string(),
  })).length(1), // two would mean that the server was promoted during its own backup, which PostgreSQL refuses
});

/** Parses a manifest made with MANIFEST_CHECKSUMS 'CRC32C' or 'SHA256'. Throws BackupManifestError. */
export function parseBackupManifest(bytes: Uint8Array): BackupManifest {
  verifyOwnChecksum(bytes);
  const result = schema.safeParse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  if (!result.success) {
    throw new BackupManifestError(`backup manifest is malformed at ${result.error.issues[0].path.join(".")}`);
  }
  const files = new Map<string, BackupFile>();
  for (const file of result.data.Files) {
    if (file.Path === undefined) throw new BackupManifestError("backup manifest has a file whose name is not UTF-8");
    const { Checksum: checksum = "", "Checksum-Algorithm": algorithm } = file;
    if ((algorithm !== "CRC32C" && algorithm !== "SHA256") || !digits[algorithm].test(checksum)) {
      throw new BackupManifestError(`backup manifest has no CRC32C or SHA256 checksum for ${file.Path}`);
    }
    if (files.has(file.Path)) throw new BackupManifestError(`backup manifest lists ${file.Path} twice`);
    files.set(file.Path, { size: file.Size, algorithm, checksum });
  }
  const range = result.data["WAL-Ranges"][0];
  return { files, timeline: range.Timeline, startLsn: lsnOf(range["Start-LSN"]), endLsn: lsnOf(range["End-LSN"]) };
}

function lsnOf(text: string): Lsn {
  try {
    return parseLsn(text);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new BackupManifestError("backup manifest has a range of WAL that is none", { cause });
  }
}

// The last line holds the SHA-256 of all lines before it.
function verifyOwnChecksum(bytes: Uint8Array): void {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = text.lastIndexOf('\n"Manifest-Checksum": "') + 1;
  const given = /^"Manifest-Checksum": "([0-9a-f]{64})"\}\s*$/.exec(text.subarray(start).toString("latin1"));
  if (start === 0 || !given) throw new BackupManifestError("backup manifest has no checksum of its own");
  const found = createHash("sha256").update(text.subarray(0, start)).digest("hex");
  if (found !== given[1]) throw new BackupManifestError("backup manifest does not fit its own checksum");
}

/** The names of the WAL segments that hold [startLsn, endLsn) when a segment has `segmentBytes`. */
export function walSegments(manifest: BackupManifest, segmentBytes: number): string[] {
  const size = BigInt(segmentBytes);
  const perFile = 0x1_0000_0000n / size;
  const names: string[] = [];
  for (let number = manifest.startLsn / size; number <= (manifest.endLsn - 1n) / size; number++) {
    const hex = (value: bigint | number) => value.toString(16).toUpperCase().padStart(8, "0");
    names.push(hex(manifest.timeline) + hex(number / perFile) + hex(number % perFile));
  }
  return names;
}
