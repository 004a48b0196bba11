// The admin API: what the command line asks of the running agent, over the unix socket. An operation is one entry of the
// list that agent.ts hands in; each new one is added there and nowhere else. Only this machine's owner reaches it.
import { getLogger } from "@logtape/logtape";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { z } from "zod";
import { reason } from "../errors.ts";
import { answerErrors, answerUnknown, problem, readBody } from "./problems.ts";

export interface AdminOperation {
  readonly method: "GET" | "POST";
  /** `/status`, `/switchover` */
  readonly path: `/${string}`;
  /** Throws AgentErrors; they reach the caller with their exit code. `gone`: the caller does not wait any more. */
  run(input: unknown, gone: AbortSignal): unknown | Promise<unknown>;
  /** Checks the JSON body of a POST. */
  readonly input?: z.ZodType;
}

const log = getLogger(["hapair", "api", "admin"]);

/** One operation whose `run` gets its checked input typed. */
export function adminOperation<T>(
  path: `/${string}`,
  input: z.ZodType<T>,
  run: (input: T, gone: AbortSignal) => unknown | Promise<unknown>,
): AdminOperation {
  return { method: "POST", path, input, run: (value, gone) => run(value as T, gone) };
}

export function adminApp(options: {
  status: () => unknown | Promise<unknown>;
  operations?: readonly AdminOperation[];
}): Hono {
  const app = new Hono();
  app.onError(answerErrors((path, error) => log.error("{path} failed: {reason}", { path, reason: reason(error) })));
  app.use(
    bodyLimit({ maxSize: 1024 * 1024, onError: (c) => problem(c, 413, "Cannot read the body: it is over 1 MB") }),
  );
  const all: AdminOperation[] = [
    { method: "GET", path: "/status", run: options.status },
    ...options.operations ?? [],
  ];
  const known: Record<string, string[]> = {};
  for (const { method, path, input, run } of all) {
    (known[path] ??= []).push(method);
    app.on(method, path, async (c) => {
      const value = method === "POST" && input ? await readBody(c, input) : undefined;
      return c.json(await run(value, c.req.raw.signal) ?? {});
    });
  }
  app.notFound(answerUnknown(known));
  return app;
}
