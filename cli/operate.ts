// `agent switchover`, `agent failover`, `agent maintenance`: who serves, by an operator's order. Asks the running agent;
// decides nothing. A failover is never begun without a yes.
import process from "node:process";
import { createInterface } from "node:readline/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import { AgentError, UsageError } from "../agent/errors.ts";
import type { Ordered } from "../agent/node/operator_commands.ts";
import { type Context, contextOf } from "./context.ts";

const switchoverHelp = `
Orderly: the one that serves refuses writes, lets transactions end for fence_timeout_ms, and hands over when the other
has everything. Nothing is lost, and never do both take writes. Without --to: to whoever does not serve.
After a switchover to the secondary it serves until agent switchover --to primary, over restarts of both. If it is lost,
the primary serves after peer_wait_ms, but not in maintenance.
If it is not done within --timeout it is called off, and the exit code is 1.`;

const failoverHelp = `
Forced: this node serves at once, without the other. Refused where the other can be reached and is well. If the other
serves all the same, behind a cut link, both take writes, which are merged when they see each other again.`;

const maintenanceHelp = `
While it is on, the secondary does not take over by itself, whatever becomes of the primary; agent failover still does.
Both nodes note it, over restarts, and warn of it in agent status.`;

/** Looking at the peer, and the answer. */
const marginMs = 30_000;

export function addSwitchover(program: Command): void {
  program.command("switchover")
    .description("let the other node serve, with nothing pending")
    .addOption(new Option("--to <role>", "who is to serve").choices(["primary", "secondary"]))
    .option("--timeout <seconds>", "call it off if it takes longer", parseSeconds, 60)
    .addHelpText("after", switchoverHelp)
    .action(async ({ to, timeout }: { to?: string; timeout: number }, command: Command) => {
      const context = contextOf(command);
      const body = { to, timeout_seconds: timeout };
      show(context, await ask(context, "/switchover", body, timeout * 1000 + marginMs));
    });
}

export function addFailover(program: Command): void {
  program.command("failover")
    .description("let this node serve at once, without the other")
    .option("--yes", "do not ask")
    .addHelpText("after", failoverHelp)
    .action(async ({ yes }: { yes?: boolean }, command: Command) => {
      const context = contextOf(command);
      if (!yes) await confirm();
      show(context, await ask(context, "/failover", {}, 2 * marginMs));
    });
}

export function addMaintenance(program: Command): void {
  program.command("maintenance")
    .description("switch automatic failover off (on) and on again (off)")
    .argument("<on|off>", "on: no automatic failover", parseOnOff)
    .addHelpText("after", maintenanceHelp)
    .action(async (on: boolean, _flags: unknown, command: Command) => {
      const context = contextOf(command);
      show(context, await ask(context, "/maintenance", { on }, 2 * marginMs));
    });
}

const ask = ({ home }: Context, path: `/${string}`, body: unknown, timeoutMs: number): Promise<Ordered> =>
  callAgent<Ordered>(home.adminSocket, "POST", path, body, timeoutMs);

function show(context: Context, ordered: Ordered): void {
  context.print(ordered, renderOrdered(ordered));
}

/** A line for each node, and one for what lasts. */
export function renderOrdered({ node, peer, serves, maintenance, seconds }: Ordered): string {
  const there = peer.reachable ? peer.state ?? "unknown" : "not to be reached";
  return [
    `${node.name} (${node.role}) is ${node.state}, ${node.writable ? "takes writes" : "read-only"}`,
    `${peer.name} is ${there}`,
    ...serves === "secondary" ? ["The secondary is to serve until agent switchover --to primary."] : [],
    ...maintenance ? ["Maintenance is on: no automatic failover until agent maintenance off."] : [],
    `Done in ${seconds.toFixed(1)} s.`,
  ].join("\n");
}

async function confirm(): Promise<void> {
  if (!process.stdin.isTTY) {
    throw new UsageError("Cannot fail over: nobody is there to be asked", "agent failover --yes, if it is meant");
  }
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const closed = new Promise<string>((resolve) => lines.once("close", () => resolve("")));
    const question = "This node serves at once, whether or not the other one does. Go on? (yes/no) ";
    const answer = await Promise.race([lines.question(question), closed]);
    if (answer.trim().toLowerCase() === "yes") return;
  } finally {
    lines.close();
  }
  throw new AgentError("Cannot fail over: the answer was not yes", "agent failover, and answer yes, if it is meant");
}

function parseOnOff(text: string): boolean {
  if (text !== "on" && text !== "off") throw new InvalidArgumentError("It must be on or off.");
  return text === "on";
}

/** A time given as an option. */
export function parseSeconds(text: string): number {
  const seconds = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > 86_400) throw new InvalidArgumentError("It must be a whole number, 1 to 86400.");
  return seconds;
}
