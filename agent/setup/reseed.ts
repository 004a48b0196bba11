// `agent reseed`: this secondary made anew from its primary, over the peer API, with the certificates that are pinned. Its
// agent must not run. What it had is renamed, never deleted, and only after the new copy was verified.
import { setTimeout as delay } from "node:timers/promises";
import { PeerClient } from "../api/client.ts";
import { type Config, readConfig, splitAddress } from "../config.ts";
import { AgentError, RefusedError, UnreachableError } from "../errors.ts";
import type { Home } from "../home.ts";
import { AlteredPackError } from "../pack/altered.ts";
import { readRecord } from "../role/record.ts";
import { readIdentity } from "../trust/certificates.ts";
import { pinnedPeer } from "../trust/join.ts";
import { requireKey } from "../trust/key_watch.ts";
import { pinnedPeers } from "../trust/pins.ts";
import { discardDownload, downloadPack } from "./download.ts";
import { join } from "./from_primary.ts";
import { refuseRunning, type SecondarySetup, setupSecondary } from "./secondary.ts";
import type { Steps } from "./steps.ts";

export interface ReseedOptions {
  /** Although this node may hold changes that the primary has not. */
  readonly force?: boolean;
}

const pollMs = 500;
/** So long the primary may take until it serves; and so long it may be away while it makes the pack. */
const patienceMs = 120_000;

export async function reseed(home: Home, options: ReseedOptions, steps: Steps): Promise<SecondarySetup> {
  const config = readConfig(home.configFile);
  requireKey(home);
  const pgdata = refuseUnfit(home, config, options.force ?? false);
  const own = readIdentity(home.nodeCertificate, home.nodeKey);
  const pinned = pinnedPeers(home);
  const address = splitAddress(config.peer.address);
  const client = new PeerClient({ address, tls: { ...own, pinned } });
  try {
    await steps.run("pack made by the primary", () => waitMade(client, steps));
    const request = {
      client,
      file: home.downloadFile,
      onProgress: steps.progress("pack downloaded"),
      onNote: (text: string) => steps.note(text),
    };
    await steps.run("pack downloaded", () => downloadPack(request), ({ bytes }) => `${Math.round(bytes / 1e6)} MB`);
  } finally {
    client.close();
  }
  const { bin_dir: pgBin, port: pgPort, os_user: osUser, listen } = config.postgres;
  const setup = {
    pgdata,
    pgBin,
    pgPort,
    osUser,
    listen,
    replace: true,
    keepSections: true,
  };
  const result = await setupSecondary(home, { ...setup, pack: home.downloadFile }, steps).catch((error) => {
    if (error instanceof AlteredPackError) discardDownload(home.downloadFile);
    throw error;
  });
  await join(home, address, pinned, result, steps);
  discardDownload(home.downloadFile);
  return result;
}

/** Where the cluster is. Refuses what is no secondary at rest, or one that has something of its own to lose. */
function refuseUnfit(home: Home, config: Config, force: boolean): string {
  if (config.node.role !== "secondary") {
    throw new RefusedError(
      "Cannot reseed: this is the primary",
      "run it on the secondary; the copy is that of the primary",
    );
  }
  const { pgdata } = config.postgres;
  if (pgdata === undefined) {
    throw new RefusedError(
      "Cannot reseed: the server of this node is run by somebody else",
      "make a token on the primary (agent pack create --replace, agent token), and here: agent setup secondary --from ... --replace",
    );
  }
  if (pinnedPeer(home) === null) {
    throw new RefusedError("Cannot reseed: this node was not set up with agent setup secondary", "set it up so");
  }
  refuseRunning(pgdata, {});
  const record = readRecord(home.stateFile);
  if (record === null || record.state === "standby" || force) return pgdata;
  throw new RefusedError(
    `Cannot reseed: this secondary may hold changes that the primary has not: it was ${record.state} when it stopped`,
    "let the two meet first (agent run), or add --force: its data is kept aside, but takes no part any more",
  );
}

async function waitMade(client: PeerClient, steps: Steps): Promise<void> {
  const onProgress = steps.progress("pack made by the primary");
  let answer = await client.newPack(null);
  let since = performance.now();
  const late = () => performance.now() - since > patienceMs;
  // A primary that has just started looks first for its secondary: it begins none, and is asked for one again.
  if (answer.state === "waiting") steps.note("the primary does not serve yet: waiting until it does");
  while (answer.state === "waiting") {
    if (late()) throw servesNot();
    await delay(pollMs);
    answer = await client.newPack(null);
  }
  since = performance.now();
  while (answer.state === "making") {
    onProgress(answer.bytes, answer.total);
    await delay(pollMs);
    try {
      answer = await client.newPack(answer.id);
      since = performance.now();
    } catch (error) {
      if (!(error instanceof UnreachableError) || late()) throw error;
    }
  }
  if (answer.state === "made") return;
  throw new AgentError(answer.error ?? "Cannot make a pack", answer.remedy ?? "see the log of the primary's agent");
}

function servesNot(): RefusedError {
  return new RefusedError(
    `Cannot make a pack: the primary has not served for ${patienceMs / 1000} s`,
    "see agent status on the primary; then run agent reseed again",
  );
}
