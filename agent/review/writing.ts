// The transaction in which a person's decision about a conflict is written: as an application's, in a session that the
// guard does not spare, so that it fires all triggers, is sent to the peer and never commits after a fence.
import { RefusedError } from "../errors.ts";
import { connectionError, isUnreachable, openPool, type Sql, type Target } from "../postgres/connect.ts";

export interface Writing {
  readonly target: Target;
  /** The name of the other node: where to go if this one takes no writes. */
  readonly peer: string;
}

/** Not `hapair ...`: sessions of that name are spared when the guard closes. */
const sessionName = "conflicts";

/** Runs `work` in a transaction and commits. `what`: as in `Cannot <what>: ...`. RefusedError where no writes are taken. */
export async function writing<T>({ target, peer }: Writing, what: string, work: (tx: Sql) => Promise<T>): Promise<T> {
  const settings = {
    application_name: sessionName,
    lock_timeout: "5s",
    statement_timeout: "30s",
    // What is refused is told to whoever asked; in PostgreSQL's log it would stand with the values of the row.
    log_min_messages: "fatal",
  };
  const sql = openPool(target, { purpose: sessionName, max: 1, settings });
  try {
    return await sql.begin(async (tx) => {
      const [{ open }] = await tx<{ open: boolean }[]>`SELECT ha.guard_is_open() AS open`;
      if (!open) throw takesNoWrites(what, peer);
      return await work(tx as unknown as Sql);
    }) as T;
  } catch (error) {
    throw isUnreachable(error) ? connectionError(error, target) : error;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

export function takesNoWrites(what: string, peer: string): RefusedError {
  return new RefusedError(
    `Cannot ${what}: this node takes no writes`,
    `run it on the node that does: ${peer}, if it serves (see agent status)`,
  );
}
