// Whether the master key can be used right now: what manage_key.conf names is there, closed to others, well-formed, and the
// key that this node was set up with. Every use of the key goes through requireKey.
import { Buffer } from "node:buffer";
import { open, readFile } from "node:fs/promises";
import { AgentError, RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import {
  checkKeyFile,
  keyFailure,
  keyOpenFlags,
  type MasterKey,
  parseKey,
  parseKeyPath,
  readMasterKey,
  unreadableKeyPath,
} from "./key.ts";
import { isPrintOf, readPrint, rememberKey } from "./key_print.ts";

/** One look at the key: the key, or what is wrong with it. */
export type KeyLook =
  | { readonly path: string; readonly key: MasterKey; readonly problem: null; readonly remedy: null }
  | { readonly path: string; readonly key: null; readonly problem: string; readonly remedy: string };

/** The key of this node, for a pack or a backup. Throws AgentErrors while it is bad. */
export function requireKey(home: Home): MasterKey {
  const key = readMasterKey(home);
  refuseExchanged(home, key);
  return key;
}

/** The key at the start of the agent; the first start after an update takes it for the one of the setup. */
export function startKey(home: Home): MasterKey {
  const key = requireKey(home);
  if (readPrint(home) === null) rememberKey(home, key);
  return key;
}

function refuseExchanged(home: Home, key: MasterKey): void {
  const print = readPrint(home);
  if (print === null || isPrintOf(key, print)) return;
  throw new RefusedError(
    `Cannot use key ${key.path}: it is not the key that this node was set up with`,
    "put the former key back; if the key was changed on both servers on purpose: agent key accept on both",
  );
}

/** Reads without holding up the process: a key on a drive that hangs must not cost a heartbeat. */
async function read(home: Home, openFile: typeof open, found: (path: string) => void): Promise<MasterKey> {
  const text = await readFile(home.manageKeyFile, "utf8").catch((error) => {
    throw unreadableKeyPath(home.manageKeyFile, error);
  });
  const path = parseKeyPath(text, home.manageKeyFile);
  found(path);
  const key = await readOpened(path, openFile).catch((error) => {
    throw keyFailure(path, error);
  });
  refuseExchanged(home, key);
  return key;
}

async function readOpened(path: string, openFile: typeof open): Promise<MasterKey> {
  const file = await openFile(path, keyOpenFlags);
  try {
    const stat = await file.stat();
    checkKeyFile(stat, path);
    const content = Buffer.alloc(stat.size);
    const { bytesRead } = await file.read(content, 0, stat.size, 0);
    return { path, bytes: parseKey(content.subarray(0, bytesRead), path) };
  } finally {
    await file.close();
  }
}

/** Looks at the key again and again. One that cannot be read within `timeoutMs` is a problem like any other. */
export class KeyLooker {
  #path: string;
  #pending: Promise<KeyLook> | null = null;

  constructor(private readonly home: Home, private readonly timeoutMs = 5000, private readonly openFile = open) {
    this.#path = home.manageKeyFile;
  }

  async look(): Promise<KeyLook> {
    // A look that hangs is waited for again: each new one would take another of the few threads that read files.
    this.#pending ??= this.#look().finally(() => this.#pending = null);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<KeyLook>((resolve) => {
      timer = setTimeout(() =>
        resolve({
          path: this.#path,
          key: null,
          problem: `Cannot read key ${this.#path}: nothing came within ${this.timeoutMs} ms`,
          remedy: "see whether the drive that it lies on answers",
        }), this.timeoutMs);
    });
    try {
      return await Promise.race([this.#pending, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #look(): Promise<KeyLook> {
    this.#path = this.home.manageKeyFile;
    try {
      const key = await read(this.home, this.openFile, (path) => this.#path = path);
      return { path: key.path, key, problem: null, remedy: null };
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      return { path: this.#path, key: null, problem: error.message, remedy: error.remedy };
    }
  }
}
