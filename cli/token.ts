// `agent token`: a join token for `agent setup secondary --from`. Prints the token alone to standard output, for scripts.
import process from "node:process";
import { type Command, InvalidArgumentError } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import type { TokenMade } from "../agent/node/token_operations.ts";
import { contextOf } from "./context.ts";

const help = `
Whoever has it can fetch the newest pack from this primary, which only opens with the master key. It is used up when a
secondary joins, and a new token takes the place of the one before.`;

export function addToken(program: Command): void {
  program.command("token")
    .description("on the primary: a token with which a new secondary gets its pack from here")
    .option("--expires <time>", "how long it is good: 90s, 30m, 1h, 2d", parseTime, 3600)
    .addHelpText("after", help)
    .action(async ({ expires }: { expires: number }, command: Command) => {
      const context = contextOf(command);
      const body = { expires_seconds: expires };
      const made = await callAgent<TokenMade>(context.home.adminSocket, "POST", "/token", body);
      context.print(made, made.token);
      if (context.json) return;
      process.stderr.write(
        `Good once, until ${made.expires}. On the secondary:\n` +
          `  agent setup secondary --from ${made.from} --token TOKEN --pgdata DIR --key FILE\n`,
      );
    });
}

const seconds: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const mostSeconds = 30 * 86_400;

/** `90s`, `30m`, `1h`, `2d`, in seconds. */
export function parseTime(text: string): number {
  const match = /^(\d{1,8})([smhd])$/.exec(text);
  const time = match ? Number(match[1]) * seconds[match[2]] : 0;
  if (time < 1 || time > mostSeconds) {
    throw new InvalidArgumentError("It must be a time like 90s, 30m, 1h or 2d, to 30d.");
  }
  return time;
}
