// The words that both nodes share: roles, states, and the report that each heartbeat carries. Shape only: decides nothing.
import { z } from "zod";
import { parseLsn } from "./change/lsn.ts";

/** Raised when the peer API or the frames change so that two agents no longer understand each other. */
export const protocolVersion = 1;

export const roles = ["primary", "secondary"] as const;
export type Role = typeof roles[number];

export const states = [
  "starting",
  "catching_up",
  "serving",
  "standby",
  "handing_back",
  "draining",
  "seeding",
  "failed",
  "maintenance",
] as const;
export type State = typeof states[number];

export const lsnText = z.string().max(17).refine((text) => {
  try {
    parseLsn(text);
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}, "must be an LSN like 16/B374D848").meta({ pattern: "^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$" });

const orderNumber = z.number().int().min(0).meta({ description: "of two orders the one with the higher number holds" });

/** What operators have ordered, kept by both nodes: see role/orders.ts. */
export const orders = z.object({
  serves: z.object({ role: z.enum(roles), number: orderNumber }).meta({ description: "who is to serve if both can" }),
  maintenance: z.object({ on: z.boolean(), number: orderNumber }).meta({ description: "on: no automatic failover" }),
});
export type Orders = z.infer<typeof orders>;

/** Nobody has ordered anything yet. */
export const noOrders: Orders = { serves: { role: "primary", number: 0 }, maintenance: { on: false, number: 0 } };

/** What a node says of itself: in both directions of a heartbeat, and in GET /v1/peer. */
export const nodeReport = z.object({
  name: z.string().min(1).max(255),
  role: z.enum(roles),
  state: z.enum(states),
  epoch: z.number().int().min(0),
  pair_id: z.string().max(100).meta({ description: "the same on both nodes of a pair" }),
  generation: z.string().max(100).meta({ description: "new at each pack: which seed the streams belong to" }),
  protocol: z.number().int(),
  agent_version: z.string().max(50),
  pg_version: z.string().max(50),
  writable: z.boolean(),
  database_ok: z.boolean().meta({ description: "it answers, and its disk has room" }),
  database_gone_ms: z.number().min(0).default(0).meta({ description: "for how long it has not been so" }),
  disk_full: z.boolean().default(false),
  applied_lsn: lsnText.meta({ description: "how far it has applied the receiver's stream (receiver's WAL)" }),
  capturing: z.boolean(),
  fence_lsn: lsnText.nullable().meta({ description: "where its own WAL ends, while it is fenced" }),
  incoming_pending_bytes: z.number().min(0).nullable(),
  merge_held: z.boolean().default(false)
    .meta({ description: "it applies nothing of the receiver's stream until an operator, or a rehearsal, is done" }),
  orders: orders.default(noOrders),
  current_lsn: lsnText.meta({ description: "its own WAL position" }),
  clock_ms: z.number(),
  config_hash: z.string().max(100),
});
export type NodeReport = z.infer<typeof nodeReport>;

/** Why the reports of two nodes cannot belong to one working pair, or null. `there` is the peer's. */
export function pairProblem(here: NodeReport, there: NodeReport): string | null {
  if (there.protocol !== here.protocol) {
    return `${there.name} speaks protocol ${there.protocol}, ${here.name} speaks ${here.protocol}`;
  }
  if (there.pair_id !== here.pair_id) return `${there.name} belongs to another pair than ${here.name}`;
  if (there.role === here.role) return `${there.name} and ${here.name} are both ${here.role}`;
  if (there.generation !== here.generation) {
    return `${there.name} was seeded from another pack than the one ${here.name} replicates with`;
  }
  return null;
}

/** What the operator can do about `pairProblem`. */
export function pairRemedy(here: NodeReport, there: NodeReport): string {
  if (there.protocol !== here.protocol) return "install the same version of the agent on both servers";
  if (there.pair_id !== here.pair_id || there.role === here.role) {
    return "check [peer] address in agent.toml on both servers";
  }
  return "set the secondary up from the newest HAPack.zip";
}
