// Names that both ends of a change stream agree on: what hapair itself writes into the WAL beside the data.

export const publicationName = "ha_changes";
export const slotName = "ha_relay";
/** Transactions that the applier commits carry this replication origin. */
export const originName = "ha_peer";
/** Prefixes of logical messages. */
export const verdictPrefix = "ha_verdict";
export const askPrefix = "ha_ask";
export const idlePrefix = "ha_idle";
export const markPrefix = "ha_mark";
export const fencePrefix = "ha_fence";
export const sequencesPrefix = "ha_sequences";
/** hapair's own schema, and the one table of it that replicates. */
export const ownSchema = "ha";
export const conflictTable = "conflict";
