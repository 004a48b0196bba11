// `agent merge`: what the merge would do, before it does it; and keeping it from happening until somebody has looked.
import { type Command, InvalidArgumentError } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import { UsageError } from "../agent/errors.ts";
import type { MergeState } from "../agent/node/merge_operations.ts";
import type { Rehearsal } from "../agent/review/rehearsed.ts";
import { type Context, contextOf } from "./context.ts";
import { renderMergeState, renderRehearsal } from "./merge_text.ts";

const help = `
On the primary, which decides. Without an option: whether the merge is held, and what is waiting.

--dry-run applies what is waiting in one transaction and rolls it back. Until it is done, the rows that the
secondary has changed stay locked, so the application waits where it writes to them; a TRUNCATE locks its whole
table. It gives up after --timeout, when interrupted, and when the application keeps it from a lock for 10 s.
Afterwards everything is as before, and the merge goes on, unless it is held.

--hold keeps all of the secondary's changes waiting, over restarts, until --release. The secondary goes on serving
if it serves; a primary that has yet to catch up does not. WAL is kept on both servers meanwhile.

Values of columns named secret in [[table]] of agent.toml are shown as ********.`;

/** Stopping the receiver, and the answer. */
const marginMs = 60_000;
const holdMs = 30_000;

interface Flags {
  readonly dryRun?: boolean;
  readonly hold?: boolean;
  readonly release?: boolean;
  readonly timeout: number;
  readonly limit: number;
}

export function addMerge(program: Command): void {
  program.command("merge")
    .description("show what merging the secondary's changes would do; hold it until somebody has looked")
    .option("--dry-run", "rehearse it: what would conflict, and who would win")
    .option("--hold", "apply nothing of the secondary's from now on")
    .option("--release", "let the merge go on")
    .option("--timeout <seconds>", "with --dry-run: no longer than this", parseCount, 600)
    .option("--limit <n>", "with --dry-run: list at most so many conflicts", parseCount, 20)
    .addHelpText("after", help)
    .action(async (flags: Flags, command: Command) => {
      const asked = [flags.dryRun, flags.hold, flags.release].filter((flag) => flag === true);
      if (asked.length > 1) {
        throw new UsageError(
          "Cannot merge so: --dry-run, --hold and --release are one at a time",
          "--hold first, then --dry-run, then --release",
        );
      }
      const context = contextOf(command);
      if (flags.dryRun) return await dryRun(context, flags);
      const state = await (flags.hold
        ? ask(context, "/merge/hold")
        : flags.release
        ? ask(context, "/merge/release")
        : callAgent<MergeState>(context.home.adminSocket, "GET", "/merge"));
      context.print(state, renderMergeState(state));
    });
}

const ask = ({ home }: Context, path: `/${string}`): Promise<MergeState> =>
  callAgent<MergeState>(home.adminSocket, "POST", path, {}, holdMs);

async function dryRun(context: Context, { timeout, limit }: Flags): Promise<void> {
  const rehearsal = await callAgent<Rehearsal>(
    context.home.adminSocket,
    "POST",
    "/merge/rehearse",
    { timeout_seconds: timeout },
    timeout * 1000 + marginMs,
  );
  context.print(rehearsal, renderRehearsal(rehearsal, limit));
}

function parseCount(text: string): number {
  const count = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > 86_400) throw new InvalidArgumentError("It must be a whole number, 1 to 86400.");
  return count;
}
