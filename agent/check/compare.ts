// What can only be seen with both nodes side by side: versions, clocks, roles, locales, sequences. Pure.
import type { CheckAnswer, ComparedDatabase, Finding, RoleFacts } from "../check_report.ts";
import { compareCollations } from "./collation_findings.ts";
import { type Bare, failing, listed, ok, warning } from "./finding.ts";

/** How the clocks compare: the peer's minus the own one, known to half a round trip. */
export interface ClockFacts {
  readonly skewMs: number;
  readonly roundTripMs: number;
}

const skewWarnMs = 500;
const skewErrorMs = 5000;

export function compareNodes(here: CheckAnswer, there: CheckAnswer, clock: ClockFacts | null): Finding[] {
  const found: Bare[] = [agentVersions(here, there), ...clock === null ? [] : [clockFinding(clock, there.name)]];
  if (here.database === null || there.database === null) {
    const which = here.database === null ? here.name : there.name;
    found.push(
      warning("comparison", `the database of ${which} cannot be looked at, so the two were not compared`, "see above"),
    );
  } else {
    const own = { name: here.name, ...here.database };
    const other = { name: there.name, ...there.database };
    found.push(
      ...versions(own, other),
      ...compareCollations(own, other),
      ...compareRoles(own, other),
      ...compareSequences(own, other),
    );
  }
  return found.map((finding) => ({ ...finding, node: here.name }));
}

/** What the agent has had proven over the peer API; null: nothing, as no agent runs, or not long enough, or one key is bad. */
export function sameKeyFinding(sameKey: boolean | null): Bare {
  if (sameKey === null) {
    return warning(
      "key_same",
      "whether both nodes have the same master key is not known",
      "agent key check, once both agents run and see each other",
    );
  }
  return sameKey
    ? ok("key_same", "both nodes have proven to have the same master key")
    : failing("key_same", "the other node has another master key", "agent key check, on both servers");
}

type Named = ComparedDatabase & { readonly name: string };

function agentVersions(here: CheckAnswer, there: CheckAnswer): Bare {
  const both = `${here.agent_version} on ${here.name}, ${there.agent_version} on ${there.name}`;
  const remedy = "install the same version of the agent on both servers";
  if (here.protocol !== there.protocol) {
    return failing("agent_versions", `the agents do not understand each other: ${both}`, remedy);
  }
  if (here.agent_version !== there.agent_version) {
    return warning("agent_versions", `the agents differ: ${both}`, remedy);
  }
  return ok("agent_versions", `both agents are of version ${here.agent_version}`);
}

function clockFinding({ skewMs, roundTripMs }: ClockFacts, peer: string): Bare {
  const sure = Math.max(0, Math.abs(skewMs) - roundTripMs / 2);
  const message = `the clock of ${peer} is ${Math.abs(skewMs).toFixed(0)} ms ${
    skewMs < 0 ? "behind" : "ahead"
  } (known to ${(roundTripMs / 2).toFixed(0)} ms)`;
  const why = `${message}: under last_update_wins the wrong one of two versions may stay`;
  const remedy = "run an NTP client (chrony, systemd-timesyncd) on both servers";
  if (sure > skewErrorMs) return failing("clock", why, remedy);
  if (sure > skewWarnMs) return warning("clock", why, remedy);
  return ok("clock", message);
}

function versions(here: Named, there: Named): Bare[] {
  const both = `${here.version} on ${here.name}, ${there.version} on ${there.name}`;
  const version = here.major !== there.major
    ? failing(
      "postgresql_versions",
      `PostgreSQL is ${both}`,
      "install the same major version on both, and set up again",
    )
    : here.version !== there.version
    ? warning("postgresql_versions", `PostgreSQL is ${both}`, "install the newest minor release on both")
    : ok("postgresql_versions", `PostgreSQL is ${here.version} on both`);
  const encoding = here.encoding === there.encoding
    ? []
    : [failing("encoding", `the encodings differ: ${here.encoding}, ${there.encoding}`, "set the secondary up again")];
  return [version, ...encoding];
}

/** The application has to find its role on either server, with its rights and its password. */
function compareRoles(here: Named, there: Named): Bare[] {
  const found: Bare[] = [];
  for (const [one, other] of [[here, there], [there, here]]) {
    const known = new Set(other.roles.map(({ name }) => name));
    const missing = one.roles.filter(({ name }) => !known.has(name));
    if (missing.length === 0) continue;
    const message = `missing on ${other.name}: ${listed(missing.map(({ name }) => name))}`;
    const remedy = `CREATE ROLE ... on ${other.name}, with the settings that README names for DDL there`;
    const login = missing.some((role) => role.login);
    found.push(
      login
        ? failing("roles", `${message}; it cannot log in there after a failover`, remedy)
        : warning("roles", message, remedy),
    );
  }
  const others = new Map(there.roles.map((role) => [role.name, role]));
  const pairs = here.roles.flatMap((role): [RoleFacts, RoleFacts][] => {
    const other = others.get(role.name);
    return other ? [[role, other]] : [];
  });
  const unlike = pairs.filter(([one, other]) => one.attributes !== other.attributes);
  if (unlike.length > 0) {
    const first = unlike.slice(0, 3).map(([one, other]) => `${one.name} (${one.attributes}; ${other.attributes})`);
    found.push(
      warning(
        "roles",
        `roles with other rights on ${there.name} than on ${here.name}: ${
          listed([...first, ...unlike.slice(3).map(([one]) => one.name)])
        }`,
        "ALTER ROLE ... so that they are the same on both",
      ),
    );
  }
  const passwords = pairs.filter(([one, other]) =>
    one.login && one.password !== null && other.password !== null && one.password !== other.password
  );
  if (passwords.length > 0) {
    found.push(
      warning(
        "roles",
        `the password was set on one side only, or on each by itself: ${listed(passwords.map(([one]) => one.name))}`,
        "ALTER ROLE ... PASSWORD ... on both servers, with the same password; copy the verifier in pg_authid to end this",
      ),
    );
  }
  return found.length > 0 ? found : [ok("roles", `the ${here.roles.length} roles are the same on both`)];
}

/** Odd and even values fit together only where steps and bounds are the same. */
function compareSequences(here: Named, there: Named): Bare[] {
  const others = new Map(there.sequences.map((sequence) => [sequence.label, sequence]));
  const unlike = here.sequences.filter((one) => {
    const other = others.get(one.label);
    if (!other) return false; // a table that is missing there stops the stream, and says so
    if (one.increment !== other.increment || one.cycle !== other.cycle) return true;
    return !one.cycle && (one.min !== other.min || one.max !== other.max);
  });
  if (unlike.length === 0) return [];
  return [
    failing(
      "sequence_bounds",
      `increment, bounds or CYCLE differ on the two: ${listed(unlike.map(({ label }) => label))}`,
      "ALTER SEQUENCE ... so that they are the same on both servers",
    ),
  ];
}
