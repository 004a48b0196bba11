// The health API: for load balancers in Patroni's manner, 200 or 503 with JSON over one plain value; and figures for
// Prometheus. Read-only.
// Never answers 200 to "may I write here" from anything but the guard's own state.
import { getLogger } from "@logtape/logtape";
import { type Context, Hono } from "hono";
import { reason } from "../errors.ts";
import type { Role, State } from "../report.ts";
import { answerErrors } from "./problems.ts";

export interface HealthView {
  readonly name: string;
  readonly role: Role;
  readonly state: State;
  readonly epoch: number;
  /** The guard is open: clients may write. */
  readonly writable: boolean;
  readonly databaseOk: boolean;
  readonly peerReachable: boolean;
}

const steady: ReadonlySet<State> = new Set(["serving", "handing_back", "standby"]);

/** What each path asks. */
export const healthChecks: Readonly<Record<string, (view: HealthView) => boolean>> = {
  "/primary": takesWrites,
  "/read-write": takesWrites,
  "/secondary": readsOnly,
  "/replica": readsOnly,
  "/read-only": (view) => view.databaseOk,
  "/health": (view) => view.databaseOk,
  // That the agent answers is the answer: a dead database is no reason to restart the agent.
  "/liveness": () => true,
  "/readiness": (view) => view.databaseOk && steady.has(view.state) && view.writable === (view.state !== "standby"),
};

function takesWrites(view: HealthView): boolean {
  return view.databaseOk && view.writable;
}

function readsOnly(view: HealthView): boolean {
  return view.databaseOk && !view.writable;
}

const log = getLogger(["hapair", "api", "health"]);

/** What Prometheus scrapes. */
export type Metrics = () => Promise<{ readonly text: string; readonly contentType: string }>;

const allow = "GET, HEAD, OPTIONS";

export function healthApp(view: () => HealthView, metrics: Metrics): Hono {
  const app = new Hono();
  app.onError(answerErrors((path, error) => log.error("{path} failed: {reason}", { path, reason: reason(error) })));
  const readOnly = (path: string, answer: (c: Context) => Response | Promise<Response>) => {
    // Hono answers HEAD through GET, without the body.
    app.on(["GET", "OPTIONS"], path, answer);
    app.all(path, (c) => c.json({ error: `Cannot ${c.req.method} ${path}: it is read-only` }, 405, { allow }));
  };
  for (const [path, holds] of Object.entries(healthChecks)) {
    readOnly(path, (c) => {
      const now = view();
      const status = holds(now) ? 200 : 503;
      if (c.req.method === "OPTIONS") return c.body(null, status, { allow });
      return c.json({
        name: now.name,
        role: now.role,
        state: now.state,
        epoch: now.epoch,
        writable: now.writable,
        database_ok: now.databaseOk,
        peer_reachable: now.peerReachable,
      }, status);
    });
  }
  readOnly("/metrics", async (c) => {
    if (c.req.method === "OPTIONS") return c.body(null, 200, { allow });
    const { text, contentType } = await metrics();
    return c.body(text, 200, { "content-type": contentType });
  });
  app.notFound((c) => c.json({ error: `Cannot answer ${c.req.path}: there is no such path` }, 404));
  return app;
}
