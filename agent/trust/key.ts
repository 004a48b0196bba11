// The master key: found through conf/manage_key.conf, read, and turned into the keys that packs need.
// It never leaves this node: no error, log line or file made here may contain it or anything it could be computed from.
import { Buffer } from "node:buffer";
import { hkdfSync, randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  type Stats,
  writeFileSync,
} from "node:fs";
import { dirname, isAbsolute } from "node:path";
import process from "node:process";
import { bech32 } from "@scure/base";
import { AgentError, reason, RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";

export interface MasterKey {
  readonly path: string;
  readonly bytes: Buffer;
}

const leastBytes = 32;
const mostBytes = 65_536; // a larger file is not a key: somebody named the wrong file

/** The key inside a key file: `ENCRYPTIONKEY=<base64>` in the manner of a properties file, or the bytes themselves. */
export function parseKey(content: Buffer, origin: string): Buffer {
  const lines = content.toString("latin1").split(/\r?\n/);
  const named = lines.filter((line) => /^\s*ENCRYPTIONKEY/i.test(line));
  if (named.length > 1) {
    throw new UsageError(`Cannot use key ${origin}: it has ${named.length} ENCRYPTIONKEY lines`, "leave one of them");
  }
  const key = named.length ? parseNamed(named[0], origin) : content;
  if (key.length < leastBytes) {
    throw new UsageError(
      `Cannot use key ${origin}: it has ${key.length} bytes, at least ${leastBytes} are needed`,
      "name a whole key file: ENCRYPTIONKEY=<base64>, or a file of 32 or more bytes",
    );
  }
  return key;
}

function parseNamed(line: string, origin: string): Buffer {
  const match = /^\s*ENCRYPTIONKEY\s*=(.*)$/.exec(line);
  const text = match?.[1].trim().replace(/\\(.)/g, "$1");
  if (!text || !/^[A-Za-z0-9+/]+={0,2}$/.test(text) || text.replace(/=+$/, "").length % 4 === 1) {
    throw new UsageError(
      `Cannot use key ${origin}: its ENCRYPTIONKEY line is not of the form ENCRYPTIONKEY=<base64>`,
      "copy the line unchanged from the file that the key was made in",
    );
  }
  return Buffer.from(text, "base64");
}

/** What a key file must be, apart from its content: a file, small, and closed to all but its owner. */
export function checkKeyFile(stat: Pick<Stats, "isFile" | "mode" | "size">, path: string): void {
  if (!stat.isFile()) throw new UsageError(`Cannot use key ${path}: it is not a file`, "name the key file");
  if (process.platform !== "win32" && (stat.mode & 0o077) !== 0) {
    const mode = (stat.mode & 0o777).toString(8).padStart(4, "0");
    throw new UsageError(`Cannot use key ${path}: others may read it (mode ${mode})`, `chmod 600 ${path}`);
  }
  if (stat.size > mostBytes) {
    throw new UsageError(`Cannot use key ${path}: ${stat.size} bytes are no key file`, "name the key file");
  }
}

/** How a key file is opened: a pipe in its place must not hold up who opens it. */
export const keyOpenFlags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

function unreadableKey(path: string, error: unknown): UsageError {
  return new UsageError(
    `Cannot read key ${path}: ${reason(error)}`,
    "name an existing key file that this user can read",
  );
}

/** What went wrong with a key file, in words: a drive may break off after the file was opened as well. */
export function keyFailure(path: string, error: unknown): AgentError {
  return error instanceof AgentError ? error : unreadableKey(path, error);
}

/** Reads one key file. Refuses a file that others than its owner may read. */
export function readKeyFile(path: string, { stat, read } = { stat: fstatSync, read: readSync }): MasterKey {
  if (!isAbsolute(path)) {
    throw new UsageError(`Cannot use key ${path}: it is not a full path`, "name the key file by its full path");
  }
  try {
    const descriptor = openSync(path, keyOpenFlags);
    try {
      const found = stat(descriptor);
      checkKeyFile(found, path);
      const content = Buffer.alloc(found.size);
      const bytesRead = read(descriptor, content, 0, found.size, 0);
      return { path, bytes: parseKey(content.subarray(0, bytesRead), path) };
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw keyFailure(path, error);
  }
}

/** The path that the text of manage_key.conf, found at `origin`, names. */
export function parseKeyPath(text: string, origin: string): string {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");
  if (lines.length !== 1 || !isAbsolute(lines[0])) {
    const state = lines.length === 1 ? "its line is not a full path" : `it has ${lines.length} lines instead of one`;
    throw new UsageError(`Cannot use ${origin}: ${state}`, "write the full path of the key file into it");
  }
  return lines[0];
}

export function unreadableKeyPath(origin: string, error: unknown): UsageError {
  return new UsageError(
    `Cannot read ${origin}: ${reason(error)}`,
    "write the full path of the key file into it, or run setup with --key FILE",
  );
}

/** The path that conf/manage_key.conf names. */
export function readKeyPath(home: Home): string {
  let text: string;
  try {
    text = readFileSync(home.manageKeyFile, "utf8");
  } catch (error) {
    throw unreadableKeyPath(home.manageKeyFile, error);
  }
  return parseKeyPath(text, home.manageKeyFile);
}

/** Reads the key that this node's manage_key.conf names. */
export function readMasterKey(home: Home): MasterKey {
  return readKeyFile(readKeyPath(home));
}

/** Makes conf/manage_key.conf name `path`. */
export function writeKeyPath(home: Home, path: string): void {
  mkdirSync(dirname(home.manageKeyFile), { recursive: true });
  writeFileSync(home.manageKeyFile, `${path}\n`, { mode: 0o600 });
}

/** Makes a new key file of 32 random bytes. Never replaces one: the packs made with it could not be opened any more. */
export function createKey(path: string): MasterKey {
  if (!isAbsolute(path)) {
    throw new UsageError(`Cannot create key ${path}: it is not a full path`, "name the key file by its full path");
  }
  const text = randomBytes(leastBytes).toString("base64").replaceAll("=", "\\=");
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, `ENCRYPTIONKEY=${text}\n`, { mode: 0o600, flag: "wx" });
  } catch (error) {
    throw new RefusedError(`Cannot create key ${path}: ${reason(error)}`, "name a new file, or leave --create-key out");
  }
  return readKeyFile(path);
}

/** The age identity that packs are encrypted to: the public tool `age` opens them with this line as its key file. */
export function ageIdentity(key: MasterKey): string {
  const scalar = deriveKey(key, "hapair pack age identity v1");
  return bech32.encodeFromBytes("AGE-SECRET-KEY-", scalar).toUpperCase();
}

/** The key that a pack's manifest is authenticated with: who only knows the age recipient cannot make a pack. */
export function manifestMacKey(key: MasterKey): Buffer {
  return deriveKey(key, "hapair pack manifest v1");
}

/** A key of 32 bytes for one purpose only: it tells nothing of the master key, nor of those for other purposes. */
export function deriveKey(key: MasterKey, purpose: string): Buffer {
  return Buffer.from(hkdfSync("sha256", key.bytes, "", purpose, 32));
}
