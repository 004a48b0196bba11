// The vocabulary of the state machine: the durable record, what is observed, and what a state demands. Plain values only.
import type { Lsn } from "../change/lsn.ts";
import type { Role, State } from "../report.ts";
import { noOrders, type Orders } from "./orders.ts";

/** What survives a restart: run/state.json. Persisted before it is acted on. */
export interface Record {
  readonly role: Role;
  readonly state: State;
  /** Raised at each change of who serves; a higher one of the peer is adopted. Odd ones are the primary's, even ones the
   * secondary's, so that even after a split no two nodes have served in the same. 0: nobody has served yet. */
  readonly epoch: number;
  /** When the state was entered, milliseconds since 1970. */
  readonly since: number;
  /** One sentence: why it is in this state. */
  readonly why: string;
  /** The secondary has once been level with its primary; before that it must not take over. */
  readonly inSync: boolean;
  /** What operators have ordered, here or at the peer. */
  readonly orders: Orders;
  /** When this node took over by itself of late, milliseconds since 1970: see steadiness.ts. */
  readonly takeovers: readonly number[];
}

/** The peer by its last report. Durations are measured on this node's monotonic clock. */
export interface PeerView {
  readonly state: State;
  readonly epoch: number;
  /** It answers, and its disk has room. */
  readonly databaseOk: boolean;
  /** How far it has applied this node's stream. */
  readonly appliedLsn: Lsn;
  /** Where its WAL ends, if it is fenced. */
  readonly fenceLsn: Lsn | null;
  /** What it has still to take from this node, in bytes; null while its stream does not flow. */
  readonly pendingBytes: number | null;
  /** It applies nothing of this node's for now: an operator has asked for that, or rehearses the merge. */
  readonly holdsMerge: boolean;
  readonly orders: Orders;
  /** For how long, without a break, its database has been gone or without room, or it has failed; 0 if it is well. */
  readonly unwellMs: number;
  /** The report was asked for after this node had entered its state. */
  readonly knowsOurState: boolean;
}

/** Everything that a step decides upon, gathered first. */
export interface Observation {
  /** False as long as no peer has been pinned: there is nobody to wait for. */
  readonly peerExpected: boolean;
  /** The last report, however old; null before the first one since this agent started. */
  readonly peer: PeerView | null;
  /** Since the last contact; since the start of the agent if there was none. */
  readonly peerSilentMs: number;
  /** Heartbeats in a row that were sent and not answered. */
  readonly missedHeartbeats: number;
  /** The last heartbeat was answered, but only to say that the two nodes do not belong together. */
  readonly peerRefuses: boolean;
  /** For how long contact has held without an outage, and the peer has been well; 0 if it does not hold. */
  readonly peerSteadyMs: number;
  /** Since the state was entered, or since the start of the agent. */
  readonly inStateMs: number;
  /** False as long as the state is the one that this agent started in: an earlier agent may have acted in it. */
  readonly enteredHere: boolean;
  readonly databaseOk: boolean;
  /** For how long without a break the own database has been gone; 0 if it is there. */
  readonly databaseGoneMs: number;
  /** The own database answers, but there is no room for what it would have to write. */
  readonly diskFull: boolean;
  /** How far the peer's stream is applied here (peer's WAL). */
  readonly appliedLsn: Lsn;
  /** Where this node's WAL ends now. */
  readonly currentLsn: Lsn;
  /** Transactions are prepared here for two-phase commit: each may still commit, so no fence can be done. */
  readonly preparedOpen: boolean;
  /** Where it ended when the fence was done; null as long as it is not done. */
  readonly fenceLsn: Lsn | null;
  /** The peer's stream flows and next to nothing of it is pending. */
  readonly level: boolean;
  /** An operator asks for a failover to this node, now. */
  readonly failoverAsked: boolean;
}

export interface Settings {
  readonly afterMs: number;
  readonly peerWaitMs: number;
  /** A handback drains once no more than this is on its way: it bounds how long nobody takes writes. */
  readonly nearBytes: number;
  /** A handback waits until contact has held for this long; for longer if it was lost again and again. */
  readonly steadyMs: number;
}

/** Done once, when a state is entered. What must hold for as long as it lasts is in `Duties`. */
export type Action =
  | {
    readonly kind: "announce";
    readonly from: State;
    readonly to: State;
    readonly epoch: number;
    readonly why: string;
  }
  | { readonly kind: "forget_fence" }
  | { readonly kind: "tell_peer" };

/** What must hold in a state. The supervisor re-asserts it for ever. */
export interface Duties {
  /** `unchanged`: as the last agent left it (a new postmaster is closed). `fenced`: closed, with the LSN noted. */
  readonly guard: "open" | "closed" | "fenced" | "unchanged";
  /** The slot that keeps this node's changes for the peer. */
  readonly capture: boolean;
  /** Applying the peer's changes. */
  readonly apply: boolean;
}

export const statesOf: Readonly<{ [role in Role]: readonly State[] }> = {
  primary: ["starting", "catching_up", "serving", "draining"],
  secondary: ["standby", "serving", "handing_back", "draining"],
};

/** What a node does in its state. Whatever is not named here is closed. */
export function duties({ role, state }: Pick<Record, "role" | "state">): Duties {
  switch (`${role} ${state}`) {
    // Clients of a database that outlived its agent stay connected until it is known who serves.
    case "primary starting":
      return { guard: "unchanged", capture: true, apply: true };
    case "primary catching_up":
      return { guard: "closed", capture: true, apply: true };
    case "primary serving":
    case "secondary serving":
    case "secondary handing_back":
      return { guard: "open", capture: true, apply: true };
    case "primary draining":
    case "secondary draining":
      return { guard: "fenced", capture: true, apply: true };
    case "secondary standby":
      return { guard: "closed", capture: false, apply: true };
    default:
      return { guard: "closed", capture: role === "primary", apply: false };
  }
}

/** The record of a node that has just been set up. */
export function firstRecord(role: Role, now: number): Record {
  return {
    role,
    state: role === "primary" ? "starting" : "standby",
    epoch: 0,
    since: now,
    why: "it was set up",
    inSync: false,
    orders: noOrders,
    takeovers: [],
  };
}
