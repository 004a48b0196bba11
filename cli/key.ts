// `agent key check|accept`: whether the master key can be used, and whether the peer has the same. Shows no key.
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import { AgentError, UnreachableError } from "../agent/errors.ts";
import type { Home } from "../agent/home.ts";
import type { Status } from "../agent/monitor/status.ts";
import { readMasterKey } from "../agent/trust/key.ts";
import { readPrint, rememberKey } from "../agent/trust/key_print.ts";
import { KeyLooker } from "../agent/trust/key_watch.ts";
import { contextOf } from "./context.ts";

export function addKey(program: Command): void {
  const key = program.command("key").description("look after the master key");
  key.command("check")
    .description("see whether the master key can be used, and whether the peer has the same one")
    .action(async (_options: unknown, command: Command) => {
      const context = contextOf(command);
      const look = await new KeyLooker(context.home).look();
      const status = await agentStatus(context.home);
      const found = judge(look.problem === null ? null : { problem: look.problem, remedy: look.remedy }, status);
      const set = look.key !== null && readPrint(context.home) !== null;
      const bytes = look.key?.bytes.length ?? null;
      context.print(
        { path: look.path, bytes, agent_runs: status !== null, ...found },
        [
          `key        ${look.path}${bytes === null ? "" : `, ${bytes} bytes`}`,
          ...(set ? ["node       it is the key that this node was set up with"] : []),
          `peer       ${peerLine(status)}`,
        ].join("\n"),
      );
      if (!found.ok) throw new AgentError(found.problem!, found.remedy!);
    });
  key.command("accept")
    .description("go by the key that manage_key.conf names now, after it was changed on both servers")
    .action((_options: unknown, command: Command) => {
      const context = contextOf(command);
      if (!existsSync(context.home.configFile)) {
        throw new AgentError(`Cannot accept a key: ${context.home.root} is no home of a node`, "name it with --home");
      }
      const found = readMasterKey(context.home);
      rememberKey(context.home, found);
      context.print(
        { path: found.path },
        [
          `This node goes by the key in ${found.path}. It opens no pack made with another one.`,
          "The peer must have the same: agent key check",
        ].join("\n"),
      );
    });
}

/** null: no agent runs for this home, or it is not up yet. */
async function agentStatus(home: Home): Promise<Status | null> {
  try {
    return await callAgent<Status>(home.adminSocket, "GET", "/status");
  } catch (error) {
    if (error instanceof UnreachableError) return null;
    throw error;
  }
}

interface Judged {
  readonly ok: boolean;
  readonly same_as_peer: boolean | null;
  readonly problem: string | null;
  readonly remedy: string | null;
}

/** What is wrong first here, then between the two. */
export function judge(wrong: { problem: string; remedy: string } | null, status: Status | null): Judged {
  const same = status?.key.same_as_peer ?? null;
  if (wrong) return { ok: false, same_as_peer: same, ...wrong };
  if (same !== false) return { ok: true, same_as_peer: same, problem: null, remedy: null };
  return {
    ok: false,
    same_as_peer: false,
    problem: `Cannot rely on the key: ${status!.peer.name} has another one`,
    remedy:
      "copy the right key file to the other server, owned by whom the agent runs as, mode 0600; no restart is needed",
  };
}

function peerLine(status: Status | null): string {
  if (status === null) return "not asked: no agent runs for this home";
  const { peer, key } = status;
  if (!key.ok) return `${peer.name} is not asked while the key here cannot be used`;
  if (key.same_as_peer === true) return `${peer.name} has proven that it has the same key`;
  if (key.same_as_peer === false) return `${peer.name} has another key`;
  return peer.reachable ? `${peer.name} has not proven its key` : `${peer.name} cannot be asked: it does not answer`;
}
