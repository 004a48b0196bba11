// The state machine as a table: who, from where, on what condition, to where. Each row's comment is the line that is logged.
// Conditions are pure; rows are tried in order and the first that holds is taken.
import type { Role, State } from "../report.ts";
import type { Observation, PeerView, Record, Settings } from "./states.ts";
import { nearForHandback, outageMisses, steadyNeeded } from "./steadiness.ts";

/** What a condition may look at. */
export interface Context {
  readonly record: Record;
  readonly seen: Observation;
  readonly settings: Settings;
  /** Milliseconds since 1970: only to be compared with times of the record. */
  readonly now: number;
}

export interface Transition {
  readonly role: Role;
  readonly from: State;
  readonly to: State;
  readonly when: (context: Context) => boolean;
  /** The short condition, for the diagram. */
  readonly label: string;
  readonly comment: string;
  /** Whether the epoch is raised: always, if the last epoch was not this node's own, or not. */
  readonly epoch?: "raise" | "raise_unless_own";
  /** The primary serves for want of the secondary: an order that the secondary is to serve is over. */
  readonly endsSwitchover?: true;
  /** The secondary takes over by itself: remembered, see steadiness.ts. */
  readonly takesOver?: true;
}

const reachable = ({ seen, settings }: Omit<Context, "now">): boolean =>
  seen.peer !== null && !silentFor(seen, settings.afterMs);

/** Nor is a pause of this process an outage, during which no heartbeat was sent. */
function silentFor(seen: Observation, ms: number): boolean {
  return seen.peerSilentMs >= ms && seen.missedHeartbeats >= outageMisses;
}

/** Whoever answers has said for this long that it cannot work. */
function unwellFor({ peer }: Observation, ms: number): boolean {
  return peer !== null && peer.unwellMs > 0 && peer.unwellMs >= ms;
}

/** There is no peer to work with. */
function goneFor({ seen }: Context, ms: number): boolean {
  return silentFor(seen, ms) || unwellFor(seen, ms);
}

const canServe = ({ record, seen }: Context): boolean => record.inSync && seen.databaseOk && !seen.diskFull;

/** A primary that answers that this node is not its peer is alive: taking over from it would be a split. */
const mayTakeOver = (c: Context): boolean => canServe(c) && !c.seen.peerRefuses && !c.record.orders.maintenance.on;

const secondaryIsToServe = ({ record }: Pick<Context, "record">): boolean => record.orders.serves.role === "secondary";

/** Against a peer that answers and can work no operator makes this node serve; nor before it had time to answer. */
const failoverIsAsked = ({ seen, settings }: Context): boolean =>
  seen.failoverAsked && seen.databaseOk &&
  (silentFor(seen, settings.afterMs) || seen.peer !== null && (!seen.peer.databaseOk || seen.peer.unwellMs > 0));

/** Where both know that the secondary serves on purpose, the primary's taking over would be an automatic failover. */
const mayServeAlone = (c: Context): boolean =>
  c.seen.databaseOk && waitedForPeer(c) && !(secondaryIsToServe(c) && c.record.orders.maintenance.on);

const peerIs = (context: Omit<Context, "now">, ...states: State[]): boolean =>
  reachable(context) && states.includes((context.seen.peer as PeerView).state);

/** Else a primary that comes and goes would be handed its role each time, and each time writes are refused. */
const isSteady = ({ record, seen, settings, now }: Context): boolean =>
  seen.peerSteadyMs >= steadyNeeded(record.takeovers, now, settings.steadyMs);

const ownDatabaseGone = ({ seen, settings }: Context): boolean => seen.databaseGoneMs >= settings.afterMs;

const primaryIsBack = (context: Context): boolean =>
  peerIs(context, "catching_up", "serving") && (context.seen.peer as PeerView).databaseOk;

/** Waited for the peer as long as it deserves, counted from when this state began. */
const waitedForPeer = (context: Context): boolean =>
  context.seen.inStateMs >= context.settings.peerWaitMs && goneFor(context, context.settings.peerWaitMs);

/** A primary that applies nothing for now would never reach a fence. */
const mergeIsHeld = ({ seen }: Context): boolean => seen.peer?.holdsMerge === true;

/** The secondary has noted that it is not to serve, and stands by: from now on it will not take the handover. */
function handoverIsOff(c: Context): boolean {
  const { serves } = c.record.orders;
  return serves.role === "primary" && peerIs(c, "standby") && c.seen.peer!.orders.serves.number >= serves.number;
}

/**
 * A transaction was prepared just before the guard closed: the fence has to wait for whoever prepared it. An earlier agent
 * may have told of its fence: then the peer may be about to serve.
 */
function fenceIsKept({ seen }: Context): boolean {
  return seen.databaseOk && seen.preparedOpen && seen.fenceLsn === null && seen.enteredHere;
}

/** By its last word the primary is fenced and waits for this node. An old word will not do: it may have given up since. */
function isHandedOver(c: Context): boolean {
  const { seen: { peer, peerSilentMs, appliedLsn }, settings } = c;
  return peerSilentMs < settings.afterMs && peerIs(c, "draining") && peer!.fenceLsn !== null &&
    appliedLsn >= peer!.fenceLsn;
}

/** For all this node knows the secondary has reached the fence and serves: its agent gets the time to come back. */
const mayHaveTakenOver = ({ seen: { peer, fenceLsn } }: Context): boolean =>
  peer === null || fenceLsn === null || peer.appliedLsn >= fenceLsn;

/** A switchover to a secondary that is lost, or does not get to the fence, is over: the primary goes on serving. */
export function givesUpSwitchover(c: Omit<Context, "now">): boolean {
  const { record: { role, state }, seen, settings } = c;
  if (role !== "primary" || !secondaryIsToServe(c)) return false;
  if (state === "serving") return silentFor(seen, settings.afterMs);
  return state === "draining" && peerIs(c, "standby") && seen.inStateMs >= settings.peerWaitMs;
}

/** The secondary serves and has room: this node follows it. */
export function givesWayForRoom(c: Omit<Context, "now">): boolean {
  return c.record.role === "primary" && c.seen.diskFull && peerIs(c, "serving");
}

const nearlyLevel = ({ seen, settings }: Context): boolean => pendingAt(seen) <= settings.nearBytes;

const levelForHandback = ({ seen, settings }: Context): boolean =>
  pendingAt(seen) <= nearForHandback(settings.nearBytes, seen.inStateMs);

function pendingAt({ peer, currentLsn }: Observation): number {
  return peer!.pendingBytes ?? Number(currentLsn - peer!.appliedLsn);
}

export const transitions: readonly Transition[] = [
  {
    role: "primary",
    from: "starting",
    to: "catching_up",
    when: (c) => c.seen.databaseOk && peerIs(c, "serving", "handing_back", "draining"),
    label: "the secondary serves",
    comment: "the secondary served meanwhile: its changes are taken in before this node serves",
  },
  {
    role: "primary",
    from: "starting",
    to: "serving",
    when: (c) => c.seen.databaseOk && !c.seen.peerExpected,
    label: "no secondary yet",
    comment: "no secondary has joined yet: this node serves",
    epoch: "raise_unless_own",
  },
  {
    role: "primary",
    from: "starting",
    to: "serving",
    when: (c) => c.seen.databaseOk && reachable(c) && c.seen.peer!.knowsOurState,
    label: "the secondary stands by",
    comment: "the secondary stands by: this node serves",
    epoch: "raise_unless_own",
  },
  {
    role: "primary",
    from: "starting",
    to: "serving",
    when: mayServeAlone,
    label: "peer_wait_ms without the secondary",
    comment: "the secondary could not be reached for peer_wait_ms: this node serves alone",
    epoch: "raise_unless_own",
    endsSwitchover: true,
  },
  {
    role: "primary",
    from: "starting",
    to: "serving",
    when: failoverIsAsked,
    label: "agent failover",
    comment: "an operator asked for it while the secondary was away: this node serves alone",
    epoch: "raise_unless_own",
    endsSwitchover: true,
  },
  {
    role: "primary",
    from: "catching_up",
    to: "starting",
    when: ownDatabaseGone,
    label: "own database gone",
    comment: "the database of this node has been gone for after_ms",
  },
  {
    role: "primary",
    from: "catching_up",
    to: "serving",
    when: (c) =>
      c.seen.databaseOk && peerIs(c, "draining") && c.seen.peer!.fenceLsn !== null &&
      c.seen.appliedLsn >= c.seen.peer!.fenceLsn,
    label: "all is applied up to the fence",
    comment: "the secondary is fenced and everything it took in is applied here: this node serves",
    epoch: "raise",
  },
  {
    role: "primary",
    from: "catching_up",
    to: "serving",
    when: (c) => c.seen.databaseOk && peerIs(c, "standby") && c.seen.peer!.knowsOurState,
    label: "the secondary stands by",
    comment: "the secondary has handed back: this node serves",
    epoch: "raise",
  },
  {
    role: "primary",
    from: "catching_up",
    to: "serving",
    when: mayServeAlone,
    label: "peer_wait_ms without the secondary",
    comment: "the secondary was lost for peer_wait_ms: this node serves alone and merges what is missing later",
    epoch: "raise",
    endsSwitchover: true,
  },
  {
    role: "primary",
    from: "catching_up",
    to: "serving",
    when: failoverIsAsked,
    label: "agent failover",
    comment: "an operator asked for a failover: this node serves and merges what is missing later",
    epoch: "raise",
    endsSwitchover: true,
  },
  {
    role: "primary",
    from: "serving",
    to: "starting",
    when: ownDatabaseGone,
    label: "own database gone",
    comment: "the database of this node has been gone for after_ms",
  },
  {
    role: "primary",
    from: "serving",
    to: "catching_up",
    when: givesWayForRoom,
    label: "own disk full, the secondary serves",
    comment: "the disk of this node is full and the secondary serves: this node follows it until there is room",
  },
  {
    role: "primary",
    from: "serving",
    to: "draining",
    when: (c) =>
      secondaryIsToServe(c) && c.seen.databaseOk && !c.seen.preparedOpen && peerIs(c, "standby", "serving") &&
      c.seen.peer!.databaseOk && c.seen.peer!.pendingBytes !== null && nearlyLevel(c),
    label: "agent switchover",
    comment: "an operator asked for a switchover: writes are refused until the secondary has the last of them",
  },
  {
    role: "primary",
    from: "draining",
    to: "catching_up",
    when: (c) => peerIs(c, "serving", "handing_back"),
    label: "the secondary serves",
    comment: "the secondary has everything and serves: this node follows it",
  },
  {
    role: "primary",
    from: "draining",
    to: "serving",
    when: (c) => c.seen.databaseOk && handoverIsOff(c),
    label: "the switchover is called off",
    comment: "the switchover was called off, and the secondary stands by: this node serves again",
    epoch: "raise_unless_own",
  },
  {
    role: "primary",
    from: "draining",
    to: "serving",
    when: (c) => fenceIsKept(c) && peerIs(c, "standby"),
    label: "a prepared transaction is open",
    comment: "a prepared transaction is open here, so nothing can be handed over: this node serves on",
    epoch: "raise_unless_own",
  },
  {
    role: "primary",
    from: "draining",
    to: "serving",
    when: (c) => c.seen.databaseOk && goneFor(c, mayHaveTakenOver(c) ? c.settings.peerWaitMs : c.settings.afterMs),
    label: "the secondary is lost",
    comment: "the secondary was lost before it served: this node serves again",
    epoch: "raise",
    endsSwitchover: true,
  },
  {
    role: "secondary",
    from: "standby",
    to: "serving",
    when: (c) => secondaryIsToServe(c) && canServe(c) && isHandedOver(c),
    label: "agent switchover: all is applied",
    comment: "the primary has handed over, and everything it took in is applied here: this node serves",
    epoch: "raise",
  },
  {
    role: "secondary",
    from: "standby",
    to: "serving",
    when: (c) => mayTakeOver(c) && silentFor(c.seen, c.settings.afterMs),
    label: "after_ms without the primary",
    comment: "the primary could not be reached for after_ms: this node serves",
    epoch: "raise",
    takesOver: true,
  },
  {
    role: "secondary",
    from: "standby",
    to: "serving",
    when: (c) => mayTakeOver(c) && unwellFor(c.seen, c.settings.afterMs),
    label: "after_ms without the primary's database",
    comment: "the primary's database did not answer, or had no room, for after_ms: this node serves",
    epoch: "raise",
    takesOver: true,
  },
  {
    role: "secondary",
    from: "standby",
    to: "serving",
    when: (c) => canServe(c) && !c.seen.peerRefuses && failoverIsAsked(c),
    label: "agent failover",
    comment: "an operator asked for a failover: this node serves",
    epoch: "raise",
  },
  {
    role: "secondary",
    from: "serving",
    to: "handing_back",
    when: (c) => primaryIsBack(c) && !secondaryIsToServe(c),
    label: "the primary is back",
    comment: "the primary is back: this node serves on until the primary has nearly caught up",
  },
  {
    role: "secondary",
    from: "handing_back",
    to: "serving",
    when: (c) => goneFor(c, c.settings.afterMs),
    label: "the primary is lost again",
    comment: "the primary was lost again: this node goes on serving",
    epoch: "raise_unless_own",
  },
  {
    role: "secondary",
    from: "handing_back",
    to: "serving",
    when: secondaryIsToServe,
    label: "agent switchover",
    comment: "an operator wants the secondary to serve: this node goes on serving",
    epoch: "raise_unless_own",
  },
  {
    role: "secondary",
    from: "handing_back",
    to: "draining",
    when: (c) =>
      c.seen.databaseOk && !c.seen.preparedOpen && primaryIsBack(c) && c.seen.peer!.knowsOurState &&
      levelForHandback(c) && !mergeIsHeld(c) && isSteady(c),
    label: "the primary is steady, nearly caught up",
    comment: "the primary has nearly caught up and stays: writes are refused until it has the last of them",
  },
  {
    role: "secondary",
    from: "draining",
    to: "standby",
    when: (c) => c.seen.fenceLsn !== null && reachable(c) && c.seen.peer!.appliedLsn >= c.seen.fenceLsn,
    label: "the primary has everything",
    comment: "the primary has applied everything up to the fence: this node stands by",
  },
  {
    role: "secondary",
    from: "draining",
    to: "handing_back",
    when: (c) => c.seen.databaseOk && primaryIsBack(c) && mergeIsHeld(c),
    label: "the primary holds the merge",
    comment: "the primary holds the merge: this node goes on serving",
  },
  {
    role: "secondary",
    from: "draining",
    to: "handing_back",
    when: (c) => fenceIsKept(c) && peerIs(c, "catching_up"),
    label: "a prepared transaction is open",
    comment: "a prepared transaction is open here, so nothing can be handed back: this node serves on",
  },
  {
    role: "secondary",
    from: "draining",
    to: "serving",
    when: (c) => c.seen.databaseOk && goneFor(c, c.settings.afterMs),
    label: "the primary is lost again",
    comment: "the primary was lost before it had everything: this node serves again",
    epoch: "raise",
  },
];
