// The command line's side of the admin API. Errors of the agent arrive here as what they were there, exit code included.
import { Buffer } from "node:buffer";
import { request as httpRequest } from "node:http";
import { AgentError, reason, UnreachableError } from "../errors.ts";
import { errorOf } from "./problems.ts";

/** Calls the agent of the home that `socketPath` lies in. UnreachableError (exit 4) where none runs. */
export async function callAgent<T>(
  socketPath: string,
  method: "GET" | "POST",
  path: `/${string}`,
  body?: unknown,
  timeoutMs = 10_000,
): Promise<T> {
  let answer: { status: number; text: string };
  try {
    answer = await send(socketPath, method, path, body === undefined ? undefined : JSON.stringify(body), timeoutMs);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EACCES" || code === "EPERM") {
      throw new AgentError(
        "Cannot reach the agent: this user may not open its socket",
        "run it as the user that the agent runs as",
        { cause: error },
      );
    }
    const why = error instanceof Timeout ? error.message : "no agent runs for this home";
    throw new UnreachableError(
      `Cannot reach the agent: ${why}`,
      "start it with agent run, or name its folder with --home",
      {
        cause: error,
      },
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(answer.text);
  } catch (error) {
    throw new AgentError(`Cannot understand the agent: ${reason(error)}`, "see the log of the agent", { cause: error });
  }
  if (answer.status !== 200) throw errorOf(answer.status, value, path);
  return value as T;
}

class Timeout extends Error {}

function send(
  socketPath: string,
  method: string,
  path: string,
  body: string | undefined,
  timeoutMs: number,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string> = { host: "agent", connection: "close" };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      headers["content-length"] = String(Buffer.byteLength(body));
    }
    const request = httpRequest({ socketPath, method, path, headers, agent: false });
    const timer = setTimeout(() => {
      reject(new Timeout(`it did not answer within ${timeoutMs} ms`));
      request.destroy();
    }, timeoutMs);
    const fail = (error: Error) => {
      clearTimeout(timer);
      reject(error);
    };
    request.on("error", fail);
    request.once("response", (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("error", fail);
      response.once("end", () => {
        clearTimeout(timer);
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") });
      });
    });
    request.end(body);
  });
}
