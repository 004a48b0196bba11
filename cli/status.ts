// `agent status`: the pair as this node sees it, for people or as JSON; once, or again and again.
// Prints nothing but to standard output; colours only on a terminal.
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { styleText } from "node:util";
import type { Command } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import { homeAt } from "../agent/home.ts";
import type { Status } from "../agent/monitor/status.ts";
import { contextOf } from "./context.ts";
import { bytes, count } from "./words.ts";

export interface StatusOptions {
  readonly home: string;
  readonly json: boolean;
  readonly watch: boolean;
  readonly everyMs?: number;
  readonly signal?: AbortSignal;
}

/** Runs the command. UnreachableError (exit 4) where no agent runs. */
export async function showStatus({ home, json, watch, everyMs = 1000, signal }: StatusOptions): Promise<void> {
  const { adminSocket } = homeAt(home);
  const terminal = process.stdout.isTTY === true;
  for (;;) {
    const status = await callAgent<Status>(adminSocket, "GET", "/status");
    const text = json ? JSON.stringify(status, null, watch ? 0 : 2) + "\n" : renderStatus(status, terminal);
    // On a terminal the new picture takes the place of the old one.
    process.stdout.write(watch && terminal && !json ? `\x1b[H\x1b[J${text}` : text);
    if (!watch || signal?.aborted) return;
    try {
      await delay(everyMs, undefined, { signal });
    } catch (error) {
      if (!signal?.aborted) throw error;
      return;
    }
  }
}

export function addStatus(program: Command): void {
  program.command("status")
    .description("show the pair as this node sees it")
    .option("--watch", "show it again every second until interrupted")
    .action(async (options: { watch?: boolean }, command: Command) => {
      const { home, json } = contextOf(command);
      await showStatus({ home: home.root, json, watch: options.watch ?? false });
    });
}

type Style = Parameters<typeof styleText>[0];

/** A few aligned lines. */
export function renderStatus(status: Status, colours: boolean): string {
  const paint = (style: Style, text: string) => colours ? styleText(style, text, { validateStream: false }) : text;
  const { node, peer, database, outgoing, incoming, merge, conflicts, key, alerts } = status;
  const lines: [string, string][] = [
    [
      "node",
      `${paint("bold", node.name)}  ${node.role} ${paint(node.writable ? "green" : "yellow", node.state)}, ${
        node.writable ? "takes writes" : "read-only"
      }, epoch ${node.epoch}`,
    ],
    ["", paint("dim", `since ${node.since}: ${node.why}`)],
    [
      "peer",
      `${paint("bold", peer.name)}  ${peer.role} ${
        peer.reachable ? peer.state ?? "?" : paint("red", `unreachable${peer.state ? `, was ${peer.state}` : ""}`)
      }${peer.reachable ? skew(peer.clock_skew_ms) : `, last seen ${peer.last_seen ?? "never"}`}`,
    ],
    [
      "database",
      `${database.running ? paint("green", "running") : paint("red", "not running")}${
        database.version ? `, PostgreSQL ${database.version}` : ""
      }  ${database.url}`,
    ],
    ["outgoing", outgoingLine(outgoing)],
    ["incoming", incomingLine(incoming)],
    [
      "merge",
      `${merge.active ? paint("yellow", "active") : "idle"}, ${
        count(merge.merged_transactions, "transaction")
      } merged, ${count(merge.conflicts, "conflict")}`,
    ],
    [
      "conflicts",
      `${conflicts.total} in all, ${conflicts.unreviewed} not reviewed${
        conflicts.quarantined > 0 ? `, ${paint("yellow", `${conflicts.quarantined} of them in no table`)}` : ""
      }`,
    ],
    [
      "key",
      `${key.ok ? "ok" : paint("red", key.problem ?? "not usable")}${
        key.same_as_peer === null
          ? ""
          : key.same_as_peer
          ? ", the same as the peer's"
          : paint("red", ", not the peer's")
      }  ${key.path}`,
    ],
    ...alerts.map(({ severity, message, since }): [string, string] => [
      severity,
      `${paint(severity === "error" ? "red" : "yellow", message)} ${paint("dim", `since ${since}`)}`,
    ]),
  ];
  const width = Math.max(...lines.map(([label]) => label.length));
  return lines.map(([label, text]) => `${label.padEnd(width)}  ${text}`.trimEnd() + "\n").join("");
}

function outgoingLine(outgoing: Status["outgoing"]): string {
  const kept = `${bytes(outgoing.retained_wal_bytes)} of WAL kept`;
  if (outgoing.pending_transactions === 0) return `nothing pending, ${kept}`;
  return `${count(outgoing.pending_transactions, "transaction")} pending (${bytes(outgoing.pending_bytes)}, oldest ${
    outgoing.oldest_pending_seconds.toFixed(1)
  } s), ${kept}`;
}

function incomingLine(incoming: Status["incoming"]): string {
  const pending = incoming.pending_bytes === null
    ? "no stream from the peer"
    : incoming.pending_bytes === 0
    ? "nothing pending"
    : `${bytes(incoming.pending_bytes)} pending`;
  return `applied up to ${incoming.applied_lsn}, ${pending}, lag ${incoming.lag_seconds.toFixed(1)} s`;
}

function skew(ms: number | null): string {
  return ms === null ? "" : `, clock ${ms >= 0 ? "+" : ""}${ms.toFixed(1)} ms`;
}
