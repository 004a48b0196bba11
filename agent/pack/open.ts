// Opens a pack: manifest, key, authenticity first; then its files, verified while they are read.
// Nothing of a pack is believed before the master key vouches for it.
import { AgentError, reason, UsageError } from "../errors.ts";
import { formatLsn } from "../change/lsn.ts";
import type { OsUser } from "../postgres/os_user.ts";
import type { MasterKey } from "../trust/key.ts";
import { decrypt, isOtherKey } from "./age.ts";
import { AlteredPackError } from "./altered.ts";
import { type BackupManifest, BackupManifestError, parseBackupManifest } from "./backup_manifest.ts";
import { checkEntries, EntryError, type EntrySink, nowhere } from "./entries.ts";
import { makeIncoming } from "./extract.ts";
import {
  macFits,
  type Member,
  memberNames,
  type PackManifest,
  type PairPart,
  parseManifest,
  parsePair,
  parseShared,
  type SharedPart,
} from "./manifest.ts";
import { collect, Meter } from "./streams.ts";
import { openZip, type ZipMembers } from "./zip_reader.ts";

const smallBytes = 1 << 20;
const backupManifestBytes = 520 << 20;
const remedy = "copy the pack again and whole, or make a new one with agent pack create on the primary";

/** A pack or a backup. */
export interface OpenCopy {
  readonly manifest: PackManifest;
  readonly shared: SharedPart;
  /** null for a backup. */
  readonly pair: PairPart | null;
  /** Reads every file and compares it with PostgreSQL's manifest. `onProgress` gets encrypted bytes. */
  verify(onProgress?: (bytes: number, total: number) => void): Promise<{ files: number; bytes: number }>;
  /** The same, while the files are written to a new folder that becomes `pgdata` at the very end. */
  extract(pgdata: string, options: ExtractOptions): Promise<Extracted>;
  close(): Promise<void>;
}

export interface OpenPack extends OpenCopy {
  readonly pair: PairPart;
}

export interface ExtractOptions {
  readonly user: OsUser | null;
  readonly replace: boolean;
  readonly onProgress?: (bytes: number, total: number) => void;
  /** Runs when all is verified, before the folder gets its name: what fails here leaves everything as it was. */
  readonly prepare?: (incoming: string) => Promise<void>;
}

export interface Extracted {
  readonly files: number;
  readonly bytes: number;
  /** Where the former content of pgdata is now. */
  readonly aside: string | null;
}

/** manifest.json as it stands in the file. Not authenticated: for showing only. */
export async function inspectPack(file: string): Promise<PackManifest> {
  const zip = await openZip(file);
  try {
    return parseManifest((await small(zip, memberNames.manifest, file)).toString("utf8"), file);
  } finally {
    await zip.close();
  }
}

/** Opens a pack that a secondary can be made from; a backup is none. The caller closes it. */
export async function openPack(file: string, key: MasterKey): Promise<OpenPack> {
  const { pair, ...opened } = await openCopy(file, key);
  if (pair !== null) return { ...opened, pair };
  await opened.close();
  throw new UsageError(
    `Cannot use ${file}: it is a backup of ${opened.manifest.backup?.node}, not a pack for a secondary`,
    "make a pack with agent pack create on the primary; agent restore puts a backup back",
  );
}

/** Opens a pack or a backup and authenticates its manifest with the master key. The caller closes it. */
export async function openCopy(file: string, key: MasterKey): Promise<OpenCopy> {
  const zip = await openZip(file);
  try {
    const bytes = await small(zip, memberNames.manifest, file);
    const manifest = parseManifest(bytes.toString("utf8"), file);
    const mac = (await small(zip, memberNames.mac, file)).toString("latin1");
    if (!macFits(key, bytes, mac)) throw await macError(zip, key, file);
    const members = new Map(manifest.members.map((member) => [member.name, member]));
    const context: Context = { file, key, zip, members };
    for (const name of [memberNames.data, memberNames.backupManifest, memberNames.pair]) checkSize(context, name);
    const text = (await whole(context, memberNames.pair, smallBytes)).toString("utf8");
    const pair = manifest.backup ? null : parsePair(text, file);
    return {
      manifest,
      shared: pair ?? parseShared(text, file),
      pair,
      verify: (onProgress) => readFiles(context, manifest, nowhere, onProgress),
      extract: (pgdata, options) => extract(context, manifest, pgdata, options),
      close: () => zip.close(),
    };
  } catch (error) {
    await zip.close();
    throw error;
  }
}

interface Context {
  readonly file: string;
  readonly key: MasterKey;
  readonly zip: ZipMembers;
  readonly members: ReadonlyMap<string, Member>;
}

function small(zip: ZipMembers, name: string, file: string) {
  if (zip.size(name) > smallBytes) throw altered(file, name, `it has ${zip.size(name)} bytes`);
  return collect(zip.read(name), smallBytes, name);
}

// The manifest does not fit the key. Whether the key or the manifest is at fault shows the part encrypted to the key.
async function macError(zip: ZipMembers, key: MasterKey, file: string): Promise<Error> {
  try {
    zip.size(memberNames.pair) <= smallBytes && await collect(decrypt(key, zip.read(memberNames.pair)), smallBytes, "");
  } catch (error) {
    if (isOtherKey(error)) {
      return new UsageError(
        `Cannot open ${file}: it was made with another master key than ${key.path}`,
        "copy the primary's key file here and name it in manage_key.conf or with --key",
      );
    }
  }
  return altered(file, memberNames.manifest, "it does not fit its authentication code");
}

function checkSize({ file, zip, members }: Context, name: string): void {
  const member = members.get(name);
  if (!member) throw altered(file, memberNames.manifest, `it does not list ${name}`);
  if (zip.size(name) !== member.size) {
    throw altered(file, name, `it has ${zip.size(name)} bytes instead of ${member.size}`);
  }
}

/** A member's plain text, authenticated; when it has been read to its end, it is the one that the manifest lists. */
async function* plain(context: Context, name: string, onBytes?: (bytes: number) => void) {
  const { file, key, zip, members } = context;
  const listed = members.get(name);
  const meter = new Meter(listed?.head);
  try {
    yield* decrypt(key, meter.through(zip.read(name), onBytes));
  } catch (error) {
    if (error instanceof AgentError) throw error;
    throw altered(file, name, isOtherKey(error) ? "its header is for another key" : reason(error), error);
  }
  if (meter.sha256() !== listed?.sha256) throw altered(file, name, "it does not fit its checksum");
}

async function whole(context: Context, name: string, limitBytes: number) {
  try {
    return await collect(plain(context, name), limitBytes, name);
  } catch (error) {
    if (error instanceof RangeError) throw altered(context.file, name, error.message, error);
    throw error;
  }
}

async function readFiles(
  context: Context,
  manifest: PackManifest,
  sink: EntrySink,
  onProgress?: (bytes: number, total: number) => void,
): Promise<{ files: number; bytes: number }> {
  const { file } = context;
  const total = context.zip.size(memberNames.data);
  let backup: BackupManifest;
  try {
    backup = parseBackupManifest(await whole(context, memberNames.backupManifest, backupManifestBytes));
  } catch (error) {
    if (error instanceof BackupManifestError || error instanceof SyntaxError) {
      throw altered(file, memberNames.backupManifest, error.message, error);
    }
    throw error;
  }
  if (formatLsn(backup.endLsn) !== manifest.postgres.end_lsn) {
    throw altered(file, memberNames.backupManifest, "it belongs to another backup");
  }
  try {
    const data = plain(context, memberNames.data, onProgress && ((bytes) => onProgress(bytes, total)));
    let ended = false;
    const result = await checkEntries(
      (async function* () {
        yield* data;
        ended = true;
      })(),
      backup,
      sink,
    );
    // Only at its very end is the member's checksum compared: a tar reader that stops early would skip that.
    if (!ended) throw new EntryError("something follows after its end");
    return result;
  } catch (error) {
    if (error instanceof AgentError) throw error;
    if (error instanceof EntryError) throw altered(file, memberNames.data, error.message, error);
    const code = (error as { code?: unknown }).code;
    if (typeof code === "string") {
      throw new AgentError(`Cannot extract ${file}: ${reason(error)}`, "see that the disk has room", { cause: error });
    }
    throw altered(file, memberNames.data, `its tar is malformed: ${reason(error)}`, error);
  }
}

async function extract(context: Context, manifest: PackManifest, pgdata: string, options: ExtractOptions) {
  const incoming = await makeIncoming(pgdata, options.user);
  try {
    const { files, bytes } = await readFiles(context, manifest, incoming.sink, options.onProgress);
    await options.prepare?.(incoming.path);
    const aside = await incoming.place(options.replace);
    return { files, bytes, aside };
  } catch (error) {
    await incoming.discard();
    throw error;
  }
}

function altered(file: string, name: string, what: string, cause?: unknown): AlteredPackError {
  return new AlteredPackError(`Cannot open ${file}: ${name} was altered or is not whole: ${what}`, remedy, { cause });
}
