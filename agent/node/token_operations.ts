// `agent token` as an operation of the admin API: a token for a secondary that fetches its pack from this primary. The
// token itself goes to the caller alone, never into the log.
import { getLogger } from "@logtape/logtape";
import { z } from "zod";
import { type AdminOperation, adminOperation } from "../api/admin_routes.ts";
import type { Config } from "../config.ts";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { ownName } from "../setup/create_pack.ts";
import { fingerprint } from "../trust/certificates.ts";
import { openToken } from "../trust/join.ts";
import { decodeToken, tokenExpiry } from "../trust/token.ts";
import { checkPack, type PackSource } from "./pack_answer.ts";

export interface TokenParts {
  readonly home: Home;
  readonly config: Config;
  readonly pack: PackSource;
  /** This node's certificate, PEM. */
  readonly peer: { readonly certificate: string };
  /** The listener lets the bearer in from now on. */
  readonly trustChanged: () => void;
}

/** What `agent token` answers. */
export interface TokenMade {
  readonly token: string;
  readonly expires: string;
  readonly from: string;
  readonly primary_fingerprint: string;
}

const log = getLogger(["hapair", "token"]);
const input = z.strictObject({ expires_seconds: z.int().min(1).max(30 * 86_400) });

/** `ready`: throws while the node is still starting. */
export function tokenOperations(ready: () => TokenParts): AdminOperation[] {
  return [adminOperation("/token", input, ({ expires_seconds }) => makeToken(ready(), expires_seconds))];
}

async function makeToken(parts: TokenParts, seconds: number): Promise<TokenMade> {
  const { home, config, peer } = parts;
  if (config.node.role !== "primary") {
    throw new RefusedError("Cannot make a token: this is the secondary", "run agent token on the primary");
  }
  await checkPack(parts.pack);
  const { certificate } = peer;
  const token = await openToken(home, certificate, seconds);
  parts.trustChanged();
  const expires = tokenExpiry(decodeToken(token)).toISOString();
  log.info("a token was made; it opens the pack until {expires}", { expires });
  return { token, expires, from: `https://${ownName(config).address}`, primary_fingerprint: fingerprint(certificate) };
}
