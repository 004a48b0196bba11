// Errors as JSON {error, remedy}, in both directions of every HTTP API of the agent. Shows no stack and no cause.
import type { Context, ErrorHandler, NotFoundHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { z } from "zod";
import { AgentError, reason, RefusedError, UnreachableError, UsageError } from "../errors.ts";

export const problemBody = z.object({
  error: z.string(),
  remedy: z.string().optional(),
  exit_code: z.number().int().optional(),
}).meta({ description: "what is wrong, and what to do about it" });
export type ProblemBody = z.infer<typeof problemBody>;

const statusOf: Record<number, ContentfulStatusCode> = { 2: 400, 3: 409, 4: 503 };

/** Answers with what was thrown. `report` gets what nobody expected. */
export function answerErrors(report: (path: string, error: unknown) => void): ErrorHandler {
  return (error, c) => {
    if (error instanceof AgentError) {
      const body: ProblemBody = { error: error.message, remedy: error.remedy, exit_code: error.exitCode };
      return c.json(body, statusOf[error.exitCode] ?? 500);
    }
    if (error instanceof HTTPException) return problem(c, error.status as ContentfulStatusCode, error.message);
    report(c.req.path, error);
    return problem(c, 500, `Cannot answer ${c.req.path}: ${reason(error)}`, "see the log of the agent");
  };
}

/** 405 where another method would do, else 404. `known` maps each path to its methods. */
export function answerUnknown(known: Readonly<Record<string, readonly string[]>>): NotFoundHandler {
  return (c) => {
    const methods = Object.hasOwn(known, c.req.path) ? known[c.req.path] : undefined;
    if (!methods) return problem(c, 404, `Cannot answer ${c.req.path}: there is no such path`);
    c.header("allow", methods.join(", "));
    return problem(c, 405, `Cannot ${c.req.method} ${c.req.path}: it takes ${methods.join(" and ")}`);
  };
}

export function problem(c: Context, status: ContentfulStatusCode, error: string, remedy?: string): Response {
  return c.json({ error, remedy: remedy ?? "see the documentation of this version of the agent" }, status);
}

/** The JSON body, checked. Throws UsageError, which is answered with 400. */
export async function readBody<T>(c: Context, schema: z.ZodType<T>): Promise<T> {
  let body: unknown;
  try {
    body = await c.req.json();
  } catch (error) {
    // A body over the limit has its own answer.
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`Cannot read the body of ${c.req.path}: it is not JSON`, "send a JSON body");
  }
  const checked = schema.safeParse(body);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  throw new UsageError(
    `Cannot use the body of ${c.req.path}: ${issue.path.join(".") || "the body"}: ${issue.message}`,
    "install the same version of the agent on both servers",
  );
}

/** The error that an answer of another agent stands for. */
export function errorOf(status: number, body: unknown, where: string): AgentError {
  const parsed = problemBody.safeParse(body);
  const said = parsed.success ? parsed.data.error : `Cannot use ${where}: it answered with HTTP ${status}`;
  const remedy = (parsed.success ? parsed.data.remedy : undefined) ?? "see the log of the agent there";
  switch (parsed.success ? parsed.data.exit_code : undefined) {
    case 1:
      return new AgentError(said, remedy);
    case 2:
      return new UsageError(said, remedy);
    case 3:
      return new RefusedError(said, remedy);
    case 4:
      return new UnreachableError(said, remedy);
  }
  return status >= 500 ? new UnreachableError(said, remedy) : new RefusedError(said, remedy);
}
