// The systemd unit of a node, as text. Pure: who prints it has looked at the home. Never names a secret: a unit is readable
// by everybody.

export interface ServiceFacts {
  /** Full path of the agent. */
  readonly executable: string;
  readonly home: string;
  /** null: the agent runs as root, and PostgreSQL as the user that agent.toml names. */
  readonly user: string | null;
  /** Where the cluster is that the agent runs; null for a server that somebody else runs. */
  readonly pgdata: string | null;
}

/** A word of a unit's line: quoted where it has to be, with nothing that systemd would put something else in place of. */
export function unitWord(text: string): string {
  const plain = text.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w./:@%$+,=-]+$/.test(plain) ? plain : `"${plain.replace(/["\\]/g, "\\$&")}"`;
}

export function serviceUnit({ executable, home, user, pgdata }: ServiceFacts): string {
  const mounts = [home, ...pgdata === null ? [] : [pgdata]].map(unitMount);
  return [
    "[Unit]",
    "Description=hapair",
    "Wants=network-online.target",
    `After=network-online.target${pgdata === null ? " postgresql.service" : ""}`,
    `RequiresMountsFor=${[...new Set(mounts)].join(" ")}`,
    "",
    "[Service]",
    `ExecStart=${unitWord(executable)} run --home ${unitWord(home)}`,
    ...user === null ? [] : [`User=${user}`],
    "Restart=always",
    pgdata === null
      ? "# What start_command has started is not the agent's to end."
      : "# PostgreSQL outlives an agent that crashes, and the next one adopts it. On a stop the agent itself stops PostgreSQL.",
    "KillMode=process",
    "TimeoutStopSec=120",
    "",
    "[Install]",
    "WantedBy=multi-user.target",
    "",
  ].join("\n");
}

// Here a $ is nothing special.
function unitMount(path: string): string {
  return unitWord(path).replaceAll("$$", "$");
}
