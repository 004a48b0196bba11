// Whether the two ports of the other node can be reached from this one. Pure.
import type { Probe, View } from "./facts.ts";
import { type Bare, failing, ok, warning } from "./finding.ts";

export function portFindings(view: View): Bare[] {
  const { peerName, agentPort, databasePort, host } = view;
  // Before a secondary has joined there may be nothing yet; a firewall that swallows is told of all the same.
  const expected = host.peerCertificate !== null;
  return [
    portFinding("port_agent", agentPort, `the agent of ${peerName}`, "start it with agent run", expected),
    portFinding(
      "port_database",
      databasePort,
      `PostgreSQL of ${peerName}`,
      "see that it runs and listens there",
      expected,
    ),
  ];
}

function portFinding(
  name: string,
  { host, port, failure }: Probe,
  what: string,
  start: string,
  expected: boolean,
): Bare {
  const where = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  switch (failure) {
    case null:
      return ok(name, `${where}, ${what}, can be reached`);
    case "ECONNREFUSED": {
      const message = `${where} is refused: ${what} does not listen there, or a firewall rejects it`;
      const remedy = `on that server: ${start}; then open port ${port} for this one`;
      return expected ? failing(name, message, remedy) : warning(name, message, remedy);
    }
    case "TIMEOUT":
      return failing(
        name,
        `${where}, ${what}, does not answer: it is off, or a firewall swallows what is sent to it`,
        `open TCP port ${port} of ${host} for this server`,
      );
    case "NOT_POSTGRES":
      return failing(
        name,
        `${where} is open, but it is not PostgreSQL that listens there`,
        `see what holds port ${port}`,
      );
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return failing(
        name,
        `${where} cannot be tried: ${host} leads nowhere`,
        `enter ${host} in the DNS or in /etc/hosts`,
      );
    default:
      return failing(
        name,
        `${where}, ${what}, cannot be reached: ${failure}`,
        "see the network between the two servers",
      );
  }
}
