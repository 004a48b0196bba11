// `agent cert show|renew|import`: the certificates of this node and of its peer. A running agent does the change; without
// one it is prepared, and done when it runs. Shows no key.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import { tryHandshake } from "../agent/api/trial.ts";
import { type Config, readConfig } from "../agent/config.ts";
import { reason, UnreachableError, UsageError } from "../agent/errors.ts";
import type { Home } from "../agent/home.ts";
import { type CertificatesView, type CertificateView, viewCertificates } from "../agent/trust/certificate_view.ts";
import { hostOf, type Identity, makeIdentity } from "../agent/trust/certificates.ts";
import { checkImport } from "../agent/trust/import.ts";
import { pinnedPeer } from "../agent/trust/join.ts";
import { beginRenewal, finishAlone, readRenewal, type Renewal } from "../agent/trust/renewal.ts";
import { type Context, contextOf, parseText } from "./context.ts";
import { parseSeconds } from "./operate.ts";

export function addCert(program: Command): void {
  const cert = program.command("cert").description("show and change the certificates of the peer API");
  cert.command("show")
    .description("this node's certificate, the peer's, and what is under way")
    .action((_options: unknown, command: Command) => {
      const context = contextOf(command);
      readConfig(context.home.configFile);
      const view = viewCertificates(context.home);
      context.print(view, renderCertificates(view, Date.now()));
    });
  cert.command("renew")
    .description("a new self-signed certificate and key; the peer is told before it is used")
    .option("--now", "use it at once, without asking the peer, which must then be given it by hand")
    .option("--timeout <seconds>", "wait so long for the peer", parseSeconds, 30)
    .action(async (options: Patience, command: Command) => {
      const context = contextOf(command);
      await change(context, readConfig(context.home.configFile), null, options);
    });
  cert.command("import")
    .description("a certificate of this node from an internal authority; it is checked before anything is replaced")
    .argument(
      "<file>",
      "PEM: the certificate, and with it, or in files of their own, its key and its authorities",
      parseText,
    )
    .option("--key <file>", "PEM: the private key", parseText)
    .option("--ca <file>", "PEM: the authority's certificates up to its root", parseText)
    .option("--now", "use it at once, without asking the peer, which must then be given it by hand")
    .option("--timeout <seconds>", "wait so long for the peer", parseSeconds, 30)
    .action(async (file: string, options: Patience & { key?: string; ca?: string }, command: Command) => {
      const context = contextOf(command);
      const config = readConfig(context.home.configFile);
      const texts = {
        bundle: read(file),
        key: options.key === undefined ? undefined : read(options.key),
        authorities: options.ca === undefined ? undefined : read(options.ca),
      };
      const identity = checkImport(texts, hostOf(config.node.name), Date.now(), file);
      await tryHandshake(identity, file);
      await change(context, config, identity, options);
    });
}

function read(file: string): string {
  try {
    return readFileSync(resolve(file), "utf8");
  } catch (cause) {
    throw new UsageError(`Cannot read ${file}: ${reason(cause)}`, "name an existing file that this user can read", {
      cause,
    });
  }
}

interface Patience {
  readonly timeout: number;
  readonly now?: boolean;
}

/** `identity` null: a new self-signed one. */
async function change(context: Context, config: Config, identity: Identity | null, wish: Patience): Promise<void> {
  const { home } = context;
  const { now = false } = wish;
  const known = pinnedPeer(home) !== null;
  const { renewal, runs } = await begin(home, config, identity, now);
  if (!runs && (now || !known)) finishAlone(home);
  await waitForEnd(home, renewal, runs ? wish.timeout : 0);
  if (readRenewal(home)?.fingerprint === renewal.fingerprint) {
    throw new UnreachableError(
      `Cannot finish yet: ${runs ? `${config.peer.name} has not answered` : "no agent runs for this home"}`,
      "wait: the new certificate is ready, and the agent goes on by itself once it reaches its peer; see agent cert show",
    );
  }
  const view = viewCertificates(home);
  const peer = config.peer.name;
  const after = now && known
    ? `Copy ${home.nodeCertificate} to conf/tls/trust/peer.crt on ${peer}: until then it does not know this node.`
    : known
    ? `${peer} accepts it, and the former one no more.`
    : "A pack made before carries the former one: make it again with agent pack create.";
  context.print({ state: "done", ...view }, `${renderCertificates(view, Date.now())}\n${after}`);
}

/** By the agent if one runs, so that no two work on the same files. */
async function begin(
  home: Home,
  config: Config,
  identity: Identity | null,
  now: boolean,
): Promise<{ renewal: Renewal; runs: boolean }> {
  try {
    return {
      renewal: await callAgent<Renewal>(home.adminSocket, "POST", "/certificate", { identity, now }),
      runs: true,
    };
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
  }
  const made = identity ?? await makeIdentity(hostOf(config.node.name));
  return { renewal: beginRenewal(home, made, new Date()), runs: false };
}

/** The agent goes on by itself, however long this waits. */
async function waitForEnd(home: Home, renewal: Renewal, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (readRenewal(home)?.fingerprint === renewal.fingerprint && performance.now() < end) await delay(100);
}

/** A few aligned lines. */
export function renderCertificates(view: CertificatesView, now: number): string {
  const shown: [string, CertificateView | null, string][] = [
    ["own", view.own, view.renewal?.phase === "switched" ? "in use; the peer has not been seen with it yet" : "in use"],
    ["own, next", view.next, "the peer has not pinned it yet"],
    ["peer", view.peer, "pinned"],
    ["peer, next", view.peer_next, "pinned as well: announced, not seen in use yet"],
    ["join", view.join, "a new secondary may join with it, from the newest pack"],
  ];
  return shown.flatMap(([label, certificate, what]) => {
    if (certificate === null) return [];
    const days = Math.floor((Date.parse(certificate.not_after) - now) / 86_400_000);
    const issuer = certificate.self_signed
      ? "self-signed"
      : `issued by ${[certificate.issuer, ...certificate.chain.slice(1)].join(" < ")}`;
    return [
      `${label.padEnd(10)}  ${certificate.subject}  ${certificate.names}`,
      `            ${what}; ${issuer}`,
      `            ${certificate.not_before} to ${certificate.not_after} (${
        days < 0 ? "expired" : `${days} days left`
      })`,
      `            SHA-256 ${certificate.fingerprint}`,
    ];
  }).join("\n");
}
