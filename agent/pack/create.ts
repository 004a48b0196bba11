// Makes HAPack.zip: one base backup, encrypted while it streams from the server to the file.
// The former pack stays in place until the new one is whole and durable; the server keeps working meanwhile.
import { formatLsn } from "../change/lsn.ts";
import { AgentError } from "../errors.ts";
import { readCollations } from "../postgres/collations.ts";
import type { Sql, Target } from "../postgres/connect.ts";
import type { MasterKey } from "../trust/key.ts";
import { type BackupManifest, BackupManifestError, parseBackupManifest } from "./backup_manifest.ts";
import { beginBaseBackup } from "./base_backup.ts";
import {
  manifestMac,
  type Member,
  memberNames,
  packFormat,
  type PackManifest,
  type PairPart,
  type SharedPart,
} from "./manifest.ts";
import { refuseInData } from "./outside.ts";
import { addSealed } from "./sealed_member.ts";
import { counted } from "./streams.ts";
import { type PackWriter, writeZip } from "./zip_writer.ts";

/** What the manifest says besides what the server and the backup tell. */
export type PackFacts = Pick<PackManifest, "agent_version" | "pair_id" | "generation" | "primary" | "secondary"> & {
  /** Set for a backup. */
  readonly backup?: PackManifest["backup"];
  /** The port the secondary's PostgreSQL gets unless it is told another one. */
  readonly port: number;
};

export interface PackRequest {
  readonly file: string;
  /** A superuser's way to the server and an ordinary pool of the same server. */
  readonly target: Target;
  readonly sql: Sql;
  readonly key: MasterKey;
  readonly facts: PackFacts;
  /** Of a pack; a backup has the shared part only. */
  readonly pair: PairPart | SharedPart;
  /** Refuse to take the place of a file that is there. */
  readonly keepPresent?: boolean;
  /** Plain bytes so far, and an estimate of all. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

export interface CreatedPack {
  readonly manifest: PackManifest;
  readonly fileBytes: number;
  readonly plainBytes: number;
}

/** Makes the pack. The logical slot that the secondary will read from must exist already; a backup needs none. */
export async function createPack(request: PackRequest): Promise<CreatedPack> {
  await refuseInData(request.sql, request.key, request.file);
  const server = await describeServer(request.sql);
  const zip = await writeZip(request.file, { keepPresent: request.keepPresent });
  try {
    const created = await fill(zip, request, server);
    return { ...created, fileBytes: await zip.commit() };
  } catch (error) {
    await zip.discard();
    throw diskError(error, request.file);
  }
}

async function fill(zip: PackWriter, { target, sql, key, facts, pair, onProgress }: PackRequest, server: Server) {
  const members: Member[] = [];
  const add = async (name: string, content: AsyncIterable<Uint8Array>) => {
    members.push(await addSealed(zip, name, key, content));
  };
  let plainBytes = 0;
  const backup = await beginBaseBackup(target, sql);
  let ranges: BackupManifest;
  try {
    const report = (bytes: number) => {
      plainBytes = bytes;
      onProgress?.(bytes, Math.max(server.bytes, bytes));
    };
    await add(memberNames.data, counted(backup.archive(), report));
    const bytes = await backup.manifest();
    ranges = parse(bytes);
    await add(memberNames.backupManifest, once(bytes));
  } finally {
    await backup.close();
  }
  await add(memberNames.pair, once(encode(pair)));
  const { port, ...rest } = facts;
  const manifest: PackManifest = {
    format: "hapair pack",
    version: packFormat,
    created_at: new Date().toISOString(),
    ...rest,
    postgres: {
      major: server.major,
      version: server.version,
      system_identifier: server.systemIdentifier,
      port,
      dbname: target.database,
      start_lsn: formatLsn(ranges.startLsn),
      end_lsn: formatLsn(ranges.endLsn),
      timeline: ranges.timeline,
    },
    collations: server.collations,
    members,
  };
  const bytes = encode(manifest);
  await zip.add(memberNames.manifest, once(bytes));
  await zip.add(memberNames.mac, once(new TextEncoder().encode(manifestMac(key, bytes) + "\n")));
  return { manifest, plainBytes };
}

interface Server {
  readonly major: number;
  readonly version: string;
  readonly systemIdentifier: string;
  readonly bytes: number;
  readonly collations: NonNullable<PackManifest["collations"]>;
}

async function describeServer(sql: Sql): Promise<Server> {
  const [row] = await sql<{ num: string; version: string; system_identifier: string; bytes: string }[]>`
    select current_setting('server_version_num') as num, current_setting('server_version') as version,
      (select system_identifier::text from pg_control_system()) as system_identifier,
      (select sum(pg_database_size(oid))::text from pg_database) as bytes`;
  return {
    major: Math.floor(Number(row.num) / 10_000),
    version: row.version.split(" ")[0],
    systemIdentifier: row.system_identifier,
    bytes: Number(row.bytes),
    collations: (await readCollations(sql)).flatMap(({ label, provider, locale, recorded }) =>
      recorded === null ? [] : [{ label, provider, locale, version: recorded }]
    ),
  };
}

function parse(bytes: Uint8Array): BackupManifest {
  try {
    return parseBackupManifest(bytes);
  } catch (cause) {
    if (!(cause instanceof BackupManifestError || cause instanceof SyntaxError)) throw cause;
    throw new AgentError(`Cannot copy the database: ${cause.message}`, "look into the server's log and try again", {
      cause,
    });
  }
}

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value, null, 2) + "\n");
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}

function diskError(error: unknown, file: string): unknown {
  const code = (error as { code?: unknown }).code;
  if (code !== "ENOSPC" && code !== "EIO" && code !== "EDQUOT" && code !== "EFBIG") return error;
  return new AgentError(`Cannot write ${file}: ${(error as Error).message}`, "make room on that disk and try again", {
    cause: error,
  });
}
