// What a node's own database has to have, and what of it will not be replicated. Pure.
import { sequenceTrouble } from "../monitor/sequence_faults.ts";
import { checkSettings } from "../postgres/settings.ts";
import { collationFindings } from "./collation_findings.ts";
import type { DatabaseFacts, RiskySettings, View } from "./facts.ts";
import { type Bare, failing, listed, ok, warning } from "./finding.ts";

/** What is looked at in any case; named so that a reader sees that it was. */
const musts = ["wal_level", "track_commit_timestamp", "max_replication_slots", "max_wal_senders"] as const;

export function databaseFindings({ database, agentRuns }: View): Bare[] {
  if ("problem" in database) {
    const message = `${database.problem}; so nothing in it was looked at`;
    return [
      agentRuns ? failing("database", message, database.remedy) : warning("database", message, "agent run, then again"),
    ];
  }
  return [
    ...settingFindings(database),
    ...riskFindings(database.risky),
    ...tableFindings(database),
    ...collationFindings(database.compared.collations),
  ];
}

function settingFindings({ settings, hasSchema }: DatabaseFacts): Bare[] {
  const wrong = checkSettings(settings);
  const have: Record<(typeof musts)[number], string> = {
    wal_level: settings.walLevel,
    track_commit_timestamp: settings.trackCommitTimestamp,
    max_replication_slots: String(settings.maxReplicationSlots),
    max_wal_senders: String(settings.maxWalSenders),
  };
  const right = musts.filter((name) => wrong.every((each) => each.name !== name));
  return [
    ...wrong.map(({ name, have, need, remedy }) => failing(name, `${name} is ${have}, needed is ${need}`, remedy)),
    ...right.map((name) => ok(name, `${name} is ${have[name]}`)),
    hasSchema
      ? ok("schema", "schema ha is there")
      : failing("schema", "schema ha is missing: this database was not set up", "run agent setup on this node"),
  ];
}

function riskFindings(
  { fsync, fullPageWrites, maxSlotWalKeepSize, idleReplicationSlotTimeout }: RiskySettings,
): Bare[] {
  const found: Bare[] = [];
  const off = [["fsync", fsync], ["full_page_writes", fullPageWrites]].filter(([, value]) => value === "off");
  for (const [name] of off) {
    found.push(
      warning(
        name,
        `${name} is off: after a power cut this database may be damaged, and the pair with it`,
        `ALTER SYSTEM SET ${name} = on; SELECT pg_reload_conf();`,
      ),
    );
  }
  if (maxSlotWalKeepSize !== -1) {
    found.push(
      warning(
        "max_slot_wal_keep_size",
        `max_slot_wal_keep_size is ${maxSlotWalKeepSize} MB: a peer that is away for longer loses its place, and has ` +
          "to be set up again",
        "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf(); or see that it is large enough",
      ),
    );
  }
  if (idleReplicationSlotTimeout !== null && idleReplicationSlotTimeout !== 0) {
    found.push(
      warning(
        "idle_replication_slot_timeout",
        `idle_replication_slot_timeout is ${idleReplicationSlotTimeout} s: a peer that is away for longer loses its place`,
        "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
      ),
    );
  }
  return found;
}

function tableFindings({ withoutKey, unlogged, largeObjects, sequences, misplaced }: DatabaseFacts): Bare[] {
  const trouble = sequenceTrouble(sequences);
  return [
    withoutKey.length === 0 ? ok("primary_keys", "every table has a primary key") : warning(
      "primary_keys",
      `without a primary key, so rows are found by all their values and whole rows go into the WAL: ${
        listed(withoutKey)
      }`,
      "ALTER TABLE ... ADD PRIMARY KEY ..., on both servers",
    ),
    unlogged.length === 0 ? ok("unlogged_tables", "no table is unlogged") : warning(
      "unlogged_tables",
      `unlogged, so not replicated: ${listed(unlogged)}`,
      "ALTER TABLE ... SET LOGGED, on both servers, if their rows matter after a failover",
    ),
    largeObjects === 0 ? ok("large_objects", "there are no large objects") : warning(
      "large_objects",
      `${largeObjects} large objects, which are not replicated`,
      "keep such values in columns of type bytea",
    ),
    trouble === null
      ? ok("sequences", "every sequence has values left")
      : warning("sequences", trouble.message, trouble.remedy),
    ...misplaced.length === 0 ? [] : [warning(
      "sequences",
      `these give out values of the other server's half just now: ${listed(misplaced)}`,
      "see that the agent runs: it sets them right within seconds; then check again",
    )],
  ];
}
