// The check as a node takes part in it: asked by the peer over its API, or run by an operator, with the peer's own view
// where that is to be had. Looks and compares; changes nothing.
import { type ClockFacts, compareNodes, sameKeyFinding } from "../check/compare.ts";
import { failing, warning } from "../check/finding.ts";
import { answerOf, viewFindings } from "../check/findings.ts";
import { lookAround } from "../check/look.ts";
import type { CheckAnswer, CheckRequest, Finding } from "../check_report.ts";
import { PeerClient } from "../api/client.ts";
import { type Config, splitAddress } from "../config.ts";
import { AgentError, RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import type { Target } from "../postgres/connect.ts";
import { readIdentity } from "../trust/certificates.ts";
import { pinnedPeers } from "../trust/pins.ts";
import { nodeDatabase } from "./database.ts";

export interface CheckParts {
  readonly home: Home;
  readonly config: Config;
  readonly target: Target;
}

/** Answers the peer. One look at a time: whoever asks the same meanwhile gets the same. */
export function checkForPeer(parts: CheckParts): (request: CheckRequest) => Promise<CheckAnswer> {
  let running: { readonly port: number; readonly answer: Promise<CheckAnswer> } | null = null;
  return async ({ postgres_port: port }) => {
    if (running !== null && running.port !== port) {
      throw new RefusedError("Cannot check: a check is going on here", "try again in a moment");
    }
    running ??= { port, answer: lookForPeer(parts, port) };
    try {
      return await running.answer;
    } finally {
      running = null;
    }
  };
}

async function lookForPeer(parts: CheckParts, peerPostgresPort: number): Promise<CheckAnswer> {
  return answerOf(await lookAround({ ...parts, agentRuns: true, peerPostgresPort }), new Date());
}

/** The whole check, from the command line. `sameKey`: what the agent that runs knows of the two keys; null: nothing. */
export async function checkPair(
  home: Home,
  config: Config,
  { agentRuns, sameKey }: { agentRuns: boolean; sameKey: boolean | null },
): Promise<Finding[]> {
  const parts = { home, config, target: nodeDatabase(home, config).target };
  const theirs = await askPeer(home, config, parts.target.port);
  const port = "answer" in theirs ? theirs.answer.postgres_port : config.postgres.port;
  const view = await lookAround({ ...parts, agentRuns, peerPostgresPort: port });
  const now = new Date();
  const key = { ...sameKeyFinding(sameKey), node: config.node.name };
  if (!("answer" in theirs)) return [...viewFindings(view, now), key, { ...theirs, node: config.node.name }];
  const { answer, clock } = theirs;
  const own = answerOf(view, now);
  return [...own.findings, ...answer.findings, key, ...compareNodes(own, answer, clock)];
}

type Asked = { answer: CheckAnswer; clock: ClockFacts } | Omit<Finding, "node">;

async function askPeer(home: Home, config: Config, ownPort: number): Promise<Asked> {
  let client: PeerClient | null = null;
  const unseen = "so what it sees, and what the two have in common, is not known";
  try {
    const pinned = pinnedPeers(home);
    if (pinned.length === 0) {
      return warning("peer", `no secondary has joined yet, ${unseen}`, "set the secondary up, run it, and check again");
    }
    const { cert, key } = readIdentity(home.nodeCertificate, home.nodeKey);
    client = new PeerClient({ address: splitAddress(config.peer.address), tls: { cert, key, pinned } });
    const clock = await askClock(client);
    return { answer: await client.check({ postgres_port: ownPort }), clock };
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    return failing("peer", `${config.peer.name} does not answer, ${unseen}: ${error.message}`, error.remedy);
  } finally {
    client?.close();
  }
}

/** The quickest of a few answers knows the clock best. */
async function askClock(client: PeerClient): Promise<ClockFacts> {
  let best: ClockFacts | null = null;
  for (let turn = 0; turn < 3; turn++) {
    const asked = Date.now();
    const began = performance.now();
    const { clock_ms } = await client.peer();
    const roundTripMs = performance.now() - began;
    if (best === null || roundTripMs < best.roundTripMs) {
      best = { skewMs: clock_ms - (asked + roundTripMs / 2), roundTripMs };
    }
  }
  return best!;
}
