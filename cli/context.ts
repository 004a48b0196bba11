// What every subcommand shares: the home, the form of its output, and how errors are shown. One place, so that all of
// them look alike; a stack trace only with --debug.
import { resolve } from "node:path";
import process from "node:process";
import { type Command, CommanderError, InvalidArgumentError } from "commander";
import { AgentError, reason, UsageError } from "../agent/errors.ts";
import { type Home, homeAt } from "../agent/home.ts";

export interface Context {
  readonly home: Home;
  readonly json: boolean;
  readonly debug: boolean;
  /** Prints a result: the value with --json, else the text. */
  print(value: unknown, text: string): void;
  /** A line for people who watch; nothing with --json. */
  say(line: string): void;
}

/** The context of a running command. */
export function contextOf(command: Command): Context {
  const { home, json = false, debug = false } = command.optsWithGlobals<
    { home: string; json?: boolean; debug?: boolean }
  >();
  const write = (text: string) => void process.stdout.write(text.endsWith("\n") ? text : text + "\n");
  return {
    home: homeAt(resolve(home)),
    json,
    debug,
    print: (value, text) => write(json ? JSON.stringify(value, null, 2) : text),
    say: (line) => json || write(line),
  };
}

/** Two lines and the exit code for whatever was thrown. */
export function describeError(error: unknown): { lines: [string, string]; exitCode: number } {
  if (error instanceof AgentError) return { lines: [error.message, `Try: ${error.remedy}`], exitCode: error.exitCode };
  if (error instanceof CommanderError) {
    const what = error.message.replace(/^error: /, "").split("\n")[0];
    return { lines: [`Cannot run this command: ${what}`, "Try: agent --help"], exitCode: 2 };
  }
  return {
    lines: [
      `Cannot go on: ${reason(error).split("\n")[0]}`,
      "Try: the same again with --debug, to see where it failed",
    ],
    exitCode: 1,
  };
}

/** A TCP port given as an option. */
export function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw new InvalidArgumentError("It must be a port, 1 to 65535.");
  return port;
}

/** An option that must not be empty: an empty variable in a script is a mistake, not the present folder. */
export function parseText(text: string): string {
  if (text.trim() === "") throw new InvalidArgumentError("It must not be empty.");
  return text;
}

export function requireOption<T>(value: T | undefined, message: string, remedy: string): T {
  if (value === undefined) throw new UsageError(message, remedy);
  return value;
}
