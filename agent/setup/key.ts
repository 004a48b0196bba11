// Which master key a setup uses. Never goes on with a key that this node's manage_key.conf would not find again.
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { rememberKey } from "../trust/key_print.ts";
import { createKey, type MasterKey, readKeyFile, writeKeyPath } from "../trust/key.ts";
import { requireKey } from "../trust/key_watch.ts";

export interface KeyOptions {
  readonly key?: string;
  readonly createKey?: boolean;
}

/** Finds the key, or makes it if asked to. Writes nothing but a key that did not exist; nameKey() makes it count. */
export function chooseKey(home: Home, options: KeyOptions): MasterKey {
  if (options.key === undefined) {
    if (existsSync(home.manageKeyFile)) return requireKey(home);
    throw new UsageError(
      "Cannot set up without a master key: none is named",
      "add --key FILE (and --create-key on the primary, to make it), or write its path into " + home.manageKeyFile,
    );
  }
  const path = resolve(options.key);
  return options.createKey && !existsSync(path) ? createKey(path) : readKeyFile(path);
}

/** Makes manage_key.conf name the key, and this node go by it. */
export function nameKey(home: Home, key: MasterKey): void {
  writeKeyPath(home, key.path);
  rememberKey(home, key);
}
