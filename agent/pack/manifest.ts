// manifest.json and pair.json of a pack: their shapes, and the code that authenticates the manifest.
// The manifest is readable by anyone: nothing secret may go into it.
import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { parseLsn } from "../change/lsn.ts";
import { UsageError } from "../errors.ts";
import { roles } from "../report.ts";
import { manifestMacKey, type MasterKey } from "../trust/key.ts";

/** What is written; format 1, whose members are listed with the SHA-256 of the whole, is read too. */
export const packFormat = 2;

/** The members of the zip, in the order they are written: what is known only at the end comes at the end. */
export const memberNames = {
  data: "data.tar.age",
  backupManifest: "backup_manifest.age",
  pair: "pair.json.age",
  manifest: "manifest.json",
  mac: "manifest.mac",
} as const;

const lsn = z.string().refine((text) => {
  try {
    return parseLsn(text) > 0n;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}, "must be an LSN like 16/B374D848");
const node = z.strictObject({ name: z.string().min(1), address: z.string().min(3) });
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** `sha256` is that of the first `head` bytes, the age header with its nonce; in format 1 that of all bytes. */
const member = z.strictObject({
  name: z.string(),
  size: z.number().int().min(0),
  head: z.number().int().min(1).optional(),
  sha256,
});

const manifest = z.strictObject({
  format: z.literal("hapair pack"),
  version: z.literal([1, packFormat]),
  created_at: z.iso.datetime(),
  agent_version: z.string(),
  pair_id: z.string().min(1),
  generation: z.string().min(1),
  primary: node,
  secondary: node,
  postgres: z.strictObject({
    major: z.number().int().min(10),
    version: z.string(),
    system_identifier: z.string(),
    port: z.number().int().min(1).max(65535),
    dbname: z.string().min(1),
    start_lsn: lsn,
    end_lsn: lsn,
    timeline: z.number().int().min(1),
  }),
  /** Where it was taken, if it is a backup: it seeds no secondary. */
  backup: z.strictObject({ node: z.string().min(1), role: z.enum(roles) }).optional(),
  /** Versioned collations that indexes of the primary depend on: another machine may sort otherwise. */
  collations: z.array(z.strictObject({
    label: z.string(),
    provider: z.string(),
    locale: z.string(),
    version: z.string(),
  })).optional(),
  members: z.array(member),
}).refine(({ version, members }) => members.every(({ head }) => (head !== undefined) === (version > 1)), {
  path: ["members"],
});
export type PackManifest = z.infer<typeof manifest>;
export type Member = z.infer<typeof member>;

const shared = z.strictObject({
  /** The parts of agent.toml that both nodes must have alike, as TOML. */
  rules: z.string(),
  /** Settings of the primary that a copy without configuration files of its own gets. */
  settings: z.record(z.string().regex(/^[a-z_]+$/), z.string().regex(/^[^\r\n\0]*$/)),
});
/** pair.json of a backup: nothing that lets anybody in. */
export type SharedPart = z.infer<typeof shared>;

const pair = shared.extend({
  primary_certificate: z.string().includes("BEGIN CERTIFICATE"),
  join: z.strictObject({ cert: z.string().includes("BEGIN CERTIFICATE"), key: z.string().includes("PRIVATE KEY") }),
});
export type PairPart = z.infer<typeof pair>;

const remedy = "make a new pack with agent pack create on the primary, and copy it whole";

/** Parses manifest.json. Says first of all when another version of the agent wrote it. */
export function parseManifest(text: string, file: string): PackManifest {
  const document = parseJson(text, memberNames.manifest, file);
  const version = (document as { version?: unknown } | null)?.version;
  if (typeof version === "number" && version !== 1 && version !== packFormat) {
    throw new UsageError(
      `Cannot open ${file}: its pack format is ${version}, this agent reads 1 and ${packFormat}`,
      "install the same version of the agent on both servers",
    );
  }
  return check(manifest, document, memberNames.manifest, file);
}

/** Parses the decrypted pair.json. */
export function parsePair(text: string, file: string): PairPart {
  return check(pair, parseJson(text, memberNames.pair, file), memberNames.pair, file);
}

/** The same of a backup. */
export function parseShared(text: string, file: string): SharedPart {
  return check(shared, parseJson(text, memberNames.pair, file), memberNames.pair, file);
}

function parseJson(text: string, name: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UsageError(`Cannot open ${file}: its ${name} is no JSON`, remedy, { cause });
  }
}

function check<T>(schema: z.ZodType<T>, document: unknown, name: string, file: string): T {
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new UsageError(`Cannot open ${file}: its ${name} is malformed at ${issue.path.join(".") || "the top"}`, remedy);
}

/** The code over manifest.json's bytes that only who has the master key can make. */
export function manifestMac(key: MasterKey, bytes: Uint8Array): string {
  return createHmac("sha256", manifestMacKey(key)).update(bytes).digest("hex");
}

export function macFits(key: MasterKey, bytes: Uint8Array, mac: string): boolean {
  const expected = Buffer.from(manifestMac(key, bytes));
  const given = Buffer.from(mac.trim());
  return expected.length === given.length && timingSafeEqual(expected, given);
}
