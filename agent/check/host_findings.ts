// What a node's machine has to have: names that resolve, a key, certificates, room. Pure.
import { roomOf, roomProblem } from "../monitor/disk_room.ts";
import type { CertificateFacts, DnsFacts, HostFacts, Problem } from "./facts.ts";
import { type Bare, failing, ok, warning } from "./finding.ts";

const dayMs = 86_400_000;
const soonDays = 30;

export function hostFindings(host: HostFacts, now: Date): Bare[] {
  return [
    ownName(host),
    nameFinding("dns_peer", host.peer),
    "problem" in host.key
      ? failing("key", host.key.problem, host.key.remedy)
      : ok("key", `the master key can be read: ${host.key.path}`),
    certificateFinding("certificate", host.certificate, now),
    host.peerCertificate === null
      ? warning("certificate_peer", "no secondary has joined yet", "set the secondary up and run it")
      : certificateFinding("certificate_peer", host.peerCertificate, now),
    ...diskFindings(host),
  ];
}

const isLoopback = (address: string) => /^127\.|^::1$|^::ffff:127\./.test(address);

/** PostgreSQL listens at what the own name leads to: the place of an old trap in /etc/hosts. */
function ownName(host: HostFacts): Bare {
  const { own, peer, interfaces, listensByName } = host;
  const found = nameFinding("dns_own", own);
  if (found.severity !== "ok" || own.isAddress) return found;
  const elsewhere = peer.addresses.some((address) => !isLoopback(address));
  if (own.addresses.every(isLoopback) && elsewhere) {
    const closed = `${own.host} leads to ${own.addresses.join(", ")} on this machine, which no other machine reaches`;
    const remedy =
      `put the address of the network in its place in /etc/hosts (a line 127.0.1.1 ${own.host} is usual there)`;
    return listensByName
      ? failing("dns_own", `${closed}, and PostgreSQL listens there`, remedy)
      : warning("dns_own", closed, remedy);
  }
  const foreign = own.addresses.filter((address) => !isLoopback(address) && !interfaces.includes(address));
  if (foreign.length === own.addresses.length) {
    const message = `${own.host} leads to ${foreign.join(", ")}, which is no address of this machine`;
    const remedy = `make ${own.host} lead to an address of this machine, here too (see /etc/hosts)`;
    return listensByName ? failing("dns_own", message, remedy) : warning("dns_own", message, remedy);
  }
  return found;
}

function nameFinding(name: string, { host, isAddress, addresses, failure }: DnsFacts): Bare {
  if (isAddress) return ok(name, `${host} is an address: no name to look up`);
  if (failure === null) return ok(name, `${host} leads to ${addresses.join(", ")}`);
  const why = failure === "TIMEOUT" ? "the resolver does not answer" : failure;
  return failing(name, `${host} leads nowhere: ${why}`, `enter ${host} in the DNS or in /etc/hosts of this machine`);
}

function certificateFinding(name: string, facts: CertificateFacts | Problem, now: Date): Bare {
  if ("problem" in facts) return failing(name, facts.problem, facts.remedy);
  const { subject, notAfter, coversHost, fromAuthority } = facts;
  const days = Math.floor((Date.parse(notAfter) - now.getTime()) / dayMs);
  const until = notAfter.slice(0, 10);
  const renew = `agent cert ${fromAuthority ? "import FILE" : "renew"}, on the server whose certificate it is`;
  if (days < 0) return failing(name, `the certificate ${subject} ended on ${until}`, renew);
  if (days <= soonDays) return warning(name, `the certificate ${subject} ends on ${until}, in ${days} days`, renew);
  // It is pinned as a whole, so another name in it keeps nobody out.
  const other = coversHost ? "" : ", made for another name";
  return ok(name, `the certificate ${subject} is good until ${until}${other}`);
}

function diskFindings({ disks, floorMb }: HostFacts): Bare[] {
  if (disks === null) {
    return [ok("disk", "not looked at: somebody else runs this server, perhaps on another machine")];
  }
  if ("problem" in disks) return [warning("disk", disks.problem, disks.remedy)];
  if (floorMb === 0) return [ok("disk", "not looked at: min_free_mb is 0")];
  const room = roomOf(disks, floorMb, "enough");
  const problem = roomProblem(room, floorMb);
  if (problem === null) {
    return [ok("disk", `${Math.floor((room.tightest?.freeBytes ?? 0) / 1048576)} MB are free where there is least`)];
  }
  return [
    room.room === "full"
      ? failing("disk", problem.message, problem.remedy)
      : warning("disk", problem.message, problem.remedy),
  ];
}
