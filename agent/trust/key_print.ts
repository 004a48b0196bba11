// By what a node notices that its master key was exchanged: a salted print of the key it was set up with, in conf/key_print.
// The print tells nothing of the key, and two nodes with one key have different prints.
import { Buffer } from "node:buffer";
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { writeDurably } from "../durable_file.ts";
import { reason, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { deriveKey, type MasterKey } from "./key.ts";

export interface KeyPrint {
  readonly salt: Buffer;
  readonly print: Buffer;
}

const bytes = 32;

export function printOf(key: MasterKey, salt: Buffer = randomBytes(bytes)): KeyPrint {
  return { salt, print: createHmac("sha256", deriveKey(key, "hapair key print v1")).update(salt).digest() };
}

export function isPrintOf(key: MasterKey, { salt, print }: KeyPrint): boolean {
  return timingSafeEqual(printOf(key, salt).print, print);
}

/** From now on `key` is the one that this node goes by. */
export function rememberKey(home: Home, key: MasterKey): void {
  const { salt, print } = printOf(key);
  writeDurably(home.keyPrintFile, `${salt.toString("hex")} ${print.toString("hex")}\n`);
}

/** The print of the key that this node was set up with; null: the home was made before there were any. */
export function readPrint(home: Home): KeyPrint | null {
  let text: string;
  try {
    text = readFileSync(home.keyPrintFile, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw damaged(home, reason(error));
  }
  const [salt, print] = text.trim().split(" ").map((hex) => Buffer.from(hex, "hex"));
  if (salt?.length !== bytes || print?.length !== bytes) throw damaged(home, "it is not as it was written");
  return { salt, print };
}

function damaged(home: Home, state: string): UsageError {
  return new UsageError(
    `Cannot read ${home.keyPrintFile}: ${state}`,
    "agent key accept, if the key is the one that the peer has; it writes the file anew",
  );
}
