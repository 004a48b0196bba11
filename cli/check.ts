// `agent check`: what stands in the way of this pair, each finding with its remedy. Exit code 1 if one is an error.
import process from "node:process";
import { styleText } from "node:util";
import type { Command } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import { worst } from "../agent/check/finding.ts";
import type { Finding, Severity } from "../agent/check_report.ts";
import { readConfig } from "../agent/config.ts";
import { AgentError, UnreachableError } from "../agent/errors.ts";
import type { Status } from "../agent/monitor/status.ts";
import { checkPair } from "../agent/node/check.ts";
import { contextOf } from "./context.ts";
import { count } from "./words.ts";

export function addCheck(program: Command): void {
  program.command("check")
    .description("find what stands in the way of this pair, from both sides, with a remedy for each")
    .action(async (_options: unknown, command: Command) => {
      const { home, print } = contextOf(command);
      const config = readConfig(home.configFile);
      const findings = await checkPair(home, config, await askAgent(home.adminSocket));
      const errors = findings.filter(({ severity }) => severity === "error").length;
      print({ worst: worst(findings), findings }, renderFindings(findings, process.stdout.isTTY === true));
      if (errors > 0) {
        throw new AgentError(
          `Cannot call this pair fit: ${count(errors, "error")} found`,
          "the remedies above, then again",
        );
      }
    });
}

async function askAgent(socket: string): Promise<{ agentRuns: boolean; sameKey: boolean | null }> {
  try {
    const { key } = await callAgent<Status>(socket, "GET", "/status");
    return { agentRuns: true, sameKey: key.same_as_peer };
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    // Any other answer is an answer.
    const silent = error instanceof UnreachableError && !/still starting/.test(error.message);
    return { agentRuns: !silent, sameKey: null };
  }
}

const colours = { ok: "green", warning: "yellow", error: "red" } as const;

/** The findings as a table: errors last, where they are seen. */
export function renderFindings(findings: readonly Finding[], colour: boolean): string {
  const order: Severity[] = ["ok", "warning", "error"];
  const sorted = order.flatMap((severity) => findings.filter((one) => one.severity === severity));
  const width = (of: (one: Finding) => string) => Math.max(0, ...sorted.map((one) => of(one).length));
  const [nodes, names] = [width(({ node }) => node), width(({ name }) => name)];
  const lines = sorted.flatMap(({ severity, node, name, message, remedy }) => {
    const word = severity.padEnd(7);
    const painted = colour ? styleText(colours[severity], word, { validateStream: false }) : word;
    const line = `${painted}  ${node.padEnd(nodes)}  ${name.padEnd(names)}  ${message}`;
    return remedy === null ? [line] : [line, `${" ".repeat(9)}Try: ${remedy}`];
  });
  const tally = order.map((severity) => `${findings.filter((one) => one.severity === severity).length} ${severity}`);
  return [...lines, tally.join(", ")].join("\n");
}
