// What one node finds when it looks at itself and at the way to the other: plain values, gathered before anything is
// decided. Shape only.
import type { ComparedDatabase } from "../check_report.ts";
import type { DiskSpace } from "../monitor/disk_room.ts";
import type { JudgedSequence } from "../monitor/sequence_faults.ts";
import type { ServerSettings } from "../postgres/settings.ts";
import type { Role } from "../report.ts";

/** What could not be looked at, and what to do about it. */
export interface Problem {
  readonly problem: string;
  readonly remedy: string;
}

export interface DnsFacts {
  readonly host: string;
  /** It is an address itself: nothing to look up. */
  readonly isAddress: boolean;
  readonly addresses: readonly string[];
  /** A code as ENOTFOUND; null: it was found. */
  readonly failure: string | null;
}

export interface CertificateFacts {
  readonly subject: string;
  /** ISO; the end of the one in its chain that ends first. */
  readonly notAfter: string;
  readonly coversHost: boolean;
  /** Its issuers are with it: an authority has to issue the next one too. */
  readonly fromAuthority: boolean;
}

export interface HostFacts {
  readonly own: DnsFacts;
  readonly peer: DnsFacts;
  /** The addresses of this machine's interfaces. */
  readonly interfaces: readonly string[];
  /** PostgreSQL listens at the address that the own name leads to. */
  readonly listensByName: boolean;
  readonly key: { readonly path: string } | Problem;
  readonly certificate: CertificateFacts | Problem;
  /** null: no peer has joined yet. */
  readonly peerCertificate: CertificateFacts | Problem | null;
  /** null: the disks are those of a server that somebody else runs. */
  readonly disks: readonly DiskSpace[] | Problem | null;
  readonly floorMb: number;
}

/** Settings that are no must, but can lose data or the peer's place. Numbers as the server writes them. */
export interface RiskySettings {
  readonly fsync: string;
  readonly fullPageWrites: string;
  /** MB; -1: without bound. */
  readonly maxSlotWalKeepSize: number;
  /** Seconds; 0: never. Null before PostgreSQL 18. */
  readonly idleReplicationSlotTimeout: number | null;
}

export interface DatabaseFacts {
  readonly settings: ServerSettings;
  readonly risky: RiskySettings;
  /** False: setup has not been here. */
  readonly hasSchema: boolean;
  readonly withoutKey: readonly string[];
  readonly unlogged: readonly string[];
  readonly largeObjects: number;
  readonly sequences: readonly JudgedSequence[];
  /** Those that give out the other node's values at this moment, on a node that takes writes. */
  readonly misplaced: readonly string[];
  readonly compared: ComparedDatabase;
}

/** One try of one port. */
export interface Probe {
  readonly host: string;
  readonly port: number;
  /** Null: it answered as it should; else a code as ECONNREFUSED, TIMEOUT, or NOT_POSTGRES. */
  readonly failure: string | null;
}

export interface View {
  readonly name: string;
  readonly role: Role;
  readonly peerName: string;
  readonly peerRole: Role;
  /** The agent of this node runs. */
  readonly agentRuns: boolean;
  readonly postgresPort: number;
  readonly clockMs: number;
  readonly host: HostFacts;
  readonly database: DatabaseFacts | Problem;
  readonly agentPort: Probe;
  readonly databasePort: Probe;
}
