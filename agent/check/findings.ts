// From what was looked at to findings, each with its remedy. Pure: the same facts give the same findings.
import type { CheckAnswer, Finding } from "../check_report.ts";
import { protocolVersion } from "../report.ts";
import { agentVersion } from "../version.ts";
import { databaseFindings } from "./database_findings.ts";
import type { View } from "./facts.ts";
import { ok, warning } from "./finding.ts";
import { hostFindings } from "./host_findings.ts";
import { portFindings } from "./port_findings.ts";

/** What a node finds at itself and on its way to the other. */
export function viewFindings(view: View, now: Date): Finding[] {
  const agent = view.agentRuns
    ? ok("agent", `the agent runs, version ${agentVersion}`)
    : warning("agent", "the agent does not run here: the other node cannot reach it now", "agent run");
  const found = [agent, ...databaseFindings(view), ...hostFindings(view.host, now), ...portFindings(view)];
  return found.map((finding) => ({ ...finding, node: view.name }));
}

/** What a node tells the other of itself. */
export function answerOf(view: View, now: Date): CheckAnswer {
  return {
    name: view.name,
    role: view.role,
    agent_version: agentVersion,
    protocol: protocolVersion,
    postgres_port: view.postgresPort,
    clock_ms: view.clockMs,
    findings: viewFindings(view, now),
    database: "problem" in view.database ? null : view.database.compared,
  };
}
