// `agent conflicts list|show|restore|reviewed`: what the merges have overruled, for people to look through. Asks the
// running agent; values of secret columns do not come here unless --reveal asks for them.
import process from "node:process";
import { type Command, InvalidArgumentError, Option } from "commander";
import { callAgent } from "../agent/api/admin_client.ts";
import {
  conflictKinds,
  type ConflictLine,
  type ConflictView,
  labelOf,
  type Restored,
  type Role,
} from "../agent/review/entry.ts";
import { renderConflict, renderList } from "./conflict_text.ts";
import { contextOf, parseText } from "./context.ts";

const secretNote = "\nValues of columns named secret in [[table]] of agent.toml are shown as ********.";

/** A restore may wait for a row that somebody holds locked. */
const writeMs = 60_000;

export function addConflicts(program: Command): void {
  const conflicts = program.command("conflicts").description("list, show and settle what the merges have overruled");
  addList(conflicts);
  addShow(conflicts);
  addRestore(conflicts);
  conflicts.command("reviewed")
    .description("note conflicts as looked at: they raise no alert any more")
    .argument("<id...>", "as agent conflicts list shows it", parseIds)
    .action(async (ids: number[], _options: unknown, command: Command) => {
      const context = contextOf(command);
      const answer = await callAgent<{ reviewed: number }>(
        context.home.adminSocket,
        "POST",
        "/conflicts/reviewed",
        { ids },
        writeMs,
      );
      context.print(answer, `${answer.reviewed} noted as reviewed`);
    });
}

function addList(conflicts: Command): void {
  conflicts.command("list")
    .description("the conflicts, newest first")
    .option("--unreviewed", "only those that nobody has looked at")
    .option("--table <name>", "only those of this table: schema.table, or the table's name", parseText)
    .addOption(new Option("--kind <kind>", "only those of this kind").choices(conflictKinds))
    .option("--limit <n>", "at most so many", parseLimit, 50)
    .addHelpText("after", secretNote)
    .action(async (options: { unreviewed?: boolean; table?: string; kind?: string; limit: number }, command) => {
      const context = contextOf(command);
      const { unreviewed = false, table = null, kind = null, limit } = options;
      const answer = await callAgent<{ conflicts: ConflictLine[]; more: boolean }>(
        context.home.adminSocket,
        "POST",
        "/conflicts/list",
        { unreviewed, table, kind, limit },
      );
      context.print(answer, renderList(answer.conflicts, answer.more, process.stdout.isTTY === true));
    });
}

function addShow(conflicts: Command): void {
  conflicts.command("show")
    .description("one conflict: both versions side by side, and why it was so decided")
    .argument("<id>", "as agent conflicts list shows it", parseId)
    .option("--reveal", "show the values of secret columns too")
    .addHelpText("after", secretNote)
    .action(async (id: number, { reveal = false }: { reveal?: boolean }, command: Command) => {
      const context = contextOf(command);
      const view = await callAgent<ConflictView>(context.home.adminSocket, "POST", "/conflicts/show", { id, reveal });
      context.print(view, renderConflict(view, process.stdout.isTTY === true));
    });
}

interface RestoreFlags {
  side?: Role;
  yes?: boolean;
  force?: boolean;
  again?: boolean;
}

function addRestore(conflicts: Command): void {
  conflicts.command("restore")
    .description("put the version that lost back, as a new write of this node")
    .argument("<id>", "as agent conflicts list shows it", parseId)
    .addOption(
      new Option("--side <role>", "whose version, where neither has lost as a whole").choices(["primary", "secondary"]),
    )
    .option("--yes", "also where the version that lost is a delete: the row is deleted")
    .option("--force", "also where the row has been changed since")
    .option("--again", "also where it was restored before")
    .action(async (id: number, flags: RestoreFlags, command: Command) => {
      const context = contextOf(command);
      const { side = null, yes = false, force = false, again = false } = flags;
      const done = await callAgent<Restored>(
        context.home.adminSocket,
        "POST",
        "/conflicts/restore",
        { id, side, yes, force, again },
        writeMs,
      );
      context.print(done, `Restored conflict ${id}: the ${done.version}'s row of ${labelOf(done)} was ${done.did}`);
    });
}

function parseId(text: string): number {
  const id = /^\d{1,15}$/.test(text) ? Number(text) : 0;
  if (id < 1) throw new InvalidArgumentError("It must be the number of a conflict.");
  return id;
}

const parseIds = (text: string, before: number[] = []): number[] => [...before, parseId(text)];

function parseLimit(text: string): number {
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > 10_000) throw new InvalidArgumentError("It must be a number, 1 to 10000.");
  return limit;
}
