// `setup secondary --from`: the pack comes over the peer API of the primary that the token names, then all goes on as with
// --pack. Nobody is spoken to whose certificate is not the token's.
import { isIP } from "node:net";
import { resolve } from "node:path";
import { PeerClient, TurnedDownError } from "../api/client.ts";
import { introduce } from "../api/introduce.ts";
import { RefusedError, UnreachableError, UsageError } from "../errors.ts";
import type { Home } from "../home.ts";
import { AlteredPackError } from "../pack/altered.ts";
import { checkTarget } from "../pack/extract.ts";
import { readIdentity } from "../trust/certificates.ts";
import { decodeToken, type JoinToken, tokenExpiry } from "../trust/token.ts";
import { discardDownload, type Downloaded, downloadPack } from "./download.ts";
import { makeHome, readPresent } from "./files.ts";
import { chooseKey } from "./key.ts";
import { refuseRunning, type SecondaryOptions, type SecondarySetup, setupSecondary } from "./secondary.ts";
import type { Steps } from "./steps.ts";

export interface FromOptions extends Omit<SecondaryOptions, "pack" | "primaryCertificate"> {
  readonly from: string;
  readonly token: string;
}

const defaultPort = 8282;

export async function setupFromPrimary(home: Home, options: FromOptions, steps: Steps) {
  const address = parseFrom(options.from);
  const token = decodeToken(options.token);
  // What can be found wrong now is not found wrong after hours of copying.
  chooseKey(home, options);
  readPresent(home, "secondary");
  refuseRunning(resolve(options.pgdata), options);
  checkTarget(resolve(options.pgdata), options.replace ?? false);
  makeHome(home);
  await fetchPack(home, address, token, steps);
  const result = await setUp(home, token, options, steps);
  await join(home, address, token.primary, result, steps);
  discardDownload(home.downloadFile);
  return result;
}

/** `https://host[:port]`. */
export function parseFrom(text: string): { host: string; port: number } {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol !== "https:" || url.pathname !== "/" || url.search || url.hash || url.username || url.password) {
    throw new UsageError(
      `Cannot use --from ${JSON.stringify(text)}: it is not of the form https://PRIMARY[:8282]`,
      "name the primary as agent token shows it",
    );
  }
  const host = url.hostname.replace(/^\[|\]$/g, "");
  // A URL leaves the port of https out, even where it was written.
  const written = isIP(host) === 6 ? /\]:(\d+)/.exec(text) : /^https:\/\/[^/]*:(\d+)/i.exec(text);
  return { host, port: written ? Number(written[1]) : defaultPort };
}

async function fetchPack(home: Home, address: { host: string; port: number }, token: JoinToken, steps: Steps) {
  const client = new PeerClient({ address, tls: { ...token.identity, pinned: token.primary } });
  try {
    await steps.run(
      "pack downloaded",
      () =>
        downloadPack({
          client,
          file: home.downloadFile,
          onProgress: steps.progress("pack downloaded"),
          onNote: (text) => steps.note(text),
        }),
      ({ bytes, kept }: Downloaded) =>
        `${Math.round(bytes / 1e6)} MB` + (kept > 0 ? `, ${Math.round(kept / 1e6)} MB of it before` : ""),
    );
  } catch (error) {
    throw explain(error, client.where, token);
  } finally {
    client.close();
  }
}

/** A download that turns out bad is dropped, so that the next command does not take it up again. */
async function setUp(home: Home, token: JoinToken, options: FromOptions, steps: Steps): Promise<SecondarySetup> {
  const { from: _from, token: _token, ...rest } = options;
  try {
    return await setupSecondary(home, { ...rest, pack: home.downloadFile, primaryCertificate: token.primary }, steps);
  } catch (error) {
    if (error instanceof AlteredPackError) discardDownload(home.downloadFile);
    throw error;
  }
}

/** The token and the pack have served then. A primary that is gone for a moment hears of it from the agent later. */
export async function join(
  home: Home,
  address: { host: string; port: number },
  pinned: string | readonly string[],
  { secondary, pair_id, generation }: SecondarySetup,
  steps: Steps,
): Promise<void> {
  const own = readIdentity(home.nodeCertificate, home.nodeKey);
  const self = { name: secondary, pair_id, generation };
  await steps.run("joined", async () => {
    try {
      await introduce({ home, address, pinned, own, self });
      return "the primary knows this server's certificate; no token or pack lets anybody in any more";
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
      return `not yet (${error.message}); the agent does it when it runs`;
    }
  }, (said) => said);
}

/** OpenSSL's words for a certificate that nothing vouches for. */
const unknownCertificate = /self.?signed|UNABLE_TO_(VERIFY|GET)|pinned certificate/i;

/** What a failure of the connection means for who holds the token. */
function explain(error: unknown, where: string, token: JoinToken): unknown {
  if (error instanceof TurnedDownError) {
    const expiry = tokenExpiry(token);
    const state = expiry < new Date() ? `it expired at ${expiry.toISOString()}` : "it was used, expired or replaced";
    return new RefusedError(
      `Cannot use the token: ${where} does not let it in; ${state}`,
      "make a new one with agent token on the primary; what has arrived already is kept",
      { cause: error },
    );
  }
  const cause = error instanceof UnreachableError ? error.cause as { code?: unknown; message?: unknown } : null;
  if (cause && unknownCertificate.test(`${cause.code} ${cause.message}`)) {
    return new RefusedError(
      `Cannot trust ${where}: it does not hold the certificate that the token names`,
      "name the primary that the token is from; if its certificate has changed since, make a new token",
      { cause: error },
    );
  }
  return error;
}
