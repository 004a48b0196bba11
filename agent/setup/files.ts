// The files of a home that setup writes: folders, agent.toml, passwords. Never overwrites what a person put into
// agent.toml beside the sections that setup owns.
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify, TomlError } from "smol-toml";
import { checkConfig, type Config } from "../config.ts";
import { reason, RefusedError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import type { Role } from "../report.ts";
import { writeWhole } from "../trust/certificates.ts";

export type Document = Record<string, unknown>;

/** The sections that setup itself writes. */
const owned = ["node", "peer", "postgres"];
/** The sections that both nodes must have alike; they travel in the pack. */
const shared = ["failover", "merge", "table", "primary_only"];

/** Makes the folders of a home. `run` is made by who starts PostgreSQL. */
export function makeHome(home: Home): void {
  try {
    // PostgreSQL, running as another user, has its socket folder below: the way there must be open, no more.
    mkdirSync(home.root, { recursive: true, mode: 0o755 });
    for (const folder of [join(home.root, "conf"), home.replicationDir, home.trustDir]) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      chmodSync(folder, 0o700);
    }
  } catch (cause) {
    throw new UsageError(
      `Cannot use ${home.root} as home: ${reason(cause)}`,
      "name a folder that this user can write with --home",
      { cause },
    );
  }
}

/** Reads a TOML file. Throws UsageError with the line where it is malformed. */
export function readToml(path: string): Document {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new UsageError(`Cannot read ${path}: ${reason(cause)}`, "name an existing file", { cause });
  }
  return parseToml(text, path);
}

export function parseToml(text: string, origin: string): Document {
  try {
    return parse(text) as Document;
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const what = cause.message.split("\n")[0];
    throw new UsageError(`Cannot read ${origin}: line ${cause.line}: ${what}`, `correct line ${cause.line}`, { cause });
  }
}

/** The present agent.toml, or null. Refuses a home that belongs to a node of the other role. */
export function readPresent(home: Home, role: Role): Document | null {
  if (!existsSync(home.configFile)) return null;
  const document = readToml(home.configFile);
  const present = (document.node as { role?: unknown } | undefined)?.role;
  if (present === role || present === undefined) return document;
  throw new RefusedError(
    `Cannot set up a ${role} in ${home.root}: it is the home of a ${present}`,
    "name another folder with --home",
  );
}

/** agent.toml of a node: the sections that setup owns, over the added file, over what is there. */
export function composeConfig(
  sections: Document,
  added: { document: Document; origin: string } | null,
  present: Document | null,
): { document: Document; config: Config } {
  for (const name of added ? owned : []) {
    if (!(name in added!.document)) continue;
    throw new UsageError(
      `Cannot use ${added!.origin}: [${name}] is written by setup itself`,
      `take [${name}] out of it; the options of agent setup say the same`,
    );
  }
  const kept = Object.fromEntries(Object.entries(present ?? {}).filter(([name]) => !owned.includes(name)));
  const document = { ...sections, ...kept, ...added?.document };
  return { document, config: checkConfig(document, added?.origin ?? "agent.toml") };
}

export function writeConfig(home: Home, document: Document): void {
  // It may hold the password of a database URL.
  writeWhole(home.configFile, stringify(document) + "\n", 0o600);
}

/** The part of agent.toml that the other node must have too. */
export function sharedRules(document: Document): string {
  return stringify(Object.fromEntries(Object.entries(document).filter(([name]) => shared.includes(name))));
}

/** The application's password: made once, then kept. */
export function ensureAppPassword(home: Home): string {
  if (existsSync(home.appPasswordFile)) return readFileSync(home.appPasswordFile, "utf8").trim();
  const password = randomBytes(24).toString("base64url");
  writeWhole(home.appPasswordFile, password + "\n", 0o600);
  return password;
}
