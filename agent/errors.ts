// The errors that a caller branches on: each carries its exit code and what the operator can do about it.
// A message never contains a password, a key or a value of a row.

/** What went wrong ("Cannot ...: state") and what to try; `exitCode` as in the README's table. */
export class AgentError extends Error {
  readonly exitCode: number = 1;
  readonly remedy: string;
  constructor(message: string, remedy: string, options?: { cause?: unknown }) {
    super(oneLine(message), options);
    this.remedy = oneLine(remedy);
    this.name = new.target.name;
  }
}

/** One line, whatever was put into it: a name from a file or a peer may hold line breaks, or commands to a terminal. */
function oneLine(text: string): string {
  return text.replace(/\s*[\r\n\u2028\u2029]+\s*|\t+/g, " ")
    .replace(/\p{Cc}/gu, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** The command line, a config file or an input file is malformed. */
export class UsageError extends AgentError {
  override readonly exitCode = 2;
}

/** The request is well-formed, but this state of the node or of the pair forbids it. */
export class RefusedError extends AgentError {
  override readonly exitCode = 3;
}

/** The peer, the agent or the database does not answer. */
export class UnreachableError extends AgentError {
  override readonly exitCode = 4;
}

/** The text of any thrown value, for logs and remedies. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
