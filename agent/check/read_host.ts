// Looks at a node's machine for `agent check`: names, key, certificates, disks. Reads only, and never the key's value
// beyond whether it is fit.
import { X509Certificate } from "node:crypto";
import { lookup } from "node:dns/promises";
import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { Config } from "../config.ts";
import { splitAddress } from "../config.ts";
import { AgentError, reason } from "../errors.ts";
import type { Home } from "../home.ts";
import type { DiskSpace } from "../monitor/disk_room.ts";
import { errorCode } from "../postgres/connect.ts";
import { describeCertificate, hostOf, readIdentity } from "../trust/certificates.ts";
import { endOfChain, splitPem } from "../trust/chain.ts";
import { peerCertificatePath, pinnedPeer } from "../trust/join.ts";
import { requireKey } from "../trust/key_watch.ts";
import type { CertificateFacts, DnsFacts, HostFacts, Problem } from "./facts.ts";

/** A resolver that does not answer is a fact too. */
const dnsMs = 5000;

export async function readHost(home: Home, config: Config): Promise<HostFacts> {
  const ownHost = hostOf(config.node.name);
  const peerHost = splitAddress(config.peer.address).host;
  const [own, peer] = await Promise.all([resolveName(ownHost), resolveName(peerHost)]);
  return {
    own,
    peer,
    interfaces: Object.values(networkInterfaces()).flatMap((each) => each ?? []).map(({ address }) => address),
    listensByName: config.postgres.url === undefined && config.postgres.listen === ownHost,
    key: attempt(() => ({ path: requireKey(home).path })),
    certificate: attempt(() => certificateFacts(readIdentity(home.nodeCertificate, home.nodeKey).cert, ownHost)),
    peerCertificate: attempt(() => {
      const pem = pinnedPeer(home);
      return pem === null ? null : certificateFacts(pem, peerHost, peerCertificatePath(home));
    }),
    disks: await readDisks(home, config),
    floorMb: config.failover.min_free_mb,
  };
}

function attempt<T>(look: () => T): T | Problem {
  try {
    return look();
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    return { problem: error.message, remedy: error.remedy };
  }
}

async function resolveName(host: string): Promise<DnsFacts> {
  if (isIP(host) !== 0) return { host, isAddress: true, addresses: [host], failure: null };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(Object.assign(new Error("no answer"), { code: "TIMEOUT" })), dnsMs);
  });
  try {
    const found = await Promise.race([lookup(host, { all: true }), late]);
    return { host, isAddress: false, addresses: found.map(({ address }) => address), failure: null };
  } catch (error) {
    return { host, isAddress: false, addresses: [], failure: errorCode(error) ?? reason(error) };
  } finally {
    clearTimeout(timer);
  }
}

function certificateFacts(pem: string, host: string, origin?: string): CertificateFacts {
  const { subject } = describeCertificate(pem, origin);
  const certificate = new X509Certificate(pem);
  const covers = isIP(host) !== 0 ? certificate.checkIP(host) : certificate.checkHost(host);
  return {
    subject,
    notAfter: new Date(endOfChain(pem)).toISOString(),
    coversHost: covers !== undefined,
    fromAuthority: splitPem(pem).length > 1,
  };
}

async function readDisks(home: Home, config: Config): Promise<readonly DiskSpace[] | Problem | null> {
  const { pgdata } = config.postgres;
  if (pgdata === undefined) return null;
  const folders = [pgdata, join(pgdata, "pg_wal"), home.replicationDir, home.runDir].filter((path) => existsSync(path));
  try {
    return await Promise.all(folders.map(async (path) => {
      const { bavail, bsize } = await statfs(path);
      return { path, freeBytes: Number(bavail) * Number(bsize) };
    }));
  } catch (error) {
    return {
      problem: `Cannot see how much room the disks have: ${reason(error)}`,
      remedy: `see that ${pgdata} can be read`,
    };
  }
}
