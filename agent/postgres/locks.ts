// Tries work that needs a lock on a user's object again while others hold it. Waits only shortly each time: whoever
// waits for a strong lock keeps all later users of the table waiting behind it.
import { AgentError } from "../errors.ts";
import { errorCode, type Sql } from "./connect.ts";
import type postgres from "postgres";

export interface LockPatience {
  readonly lockTimeoutMs?: number;
  readonly attempts?: number;
}

// deno-lint-ignore ban-types -- the type that porsager itself gives a transaction without own types
export type Transaction = postgres.TransactionSql<{}>;

const retryable = new Set(["55P03", "40P01"]); // lock_not_available, deadlock_detected

/** Runs `work` in a transaction of the agent's own (the guard's triggers do not fire), again if its lock is not to be had. */
export async function withLock<T>(
  sql: Sql,
  what: string,
  work: (tx: Transaction) => Promise<T>,
  { lockTimeoutMs = 2000, attempts = 10 }: LockPatience = {},
): Promise<T> {
  for (let attempt = 1;; attempt++) {
    try {
      return await sql.begin(async (tx) => {
        await tx.unsafe(
          `SET LOCAL session_replication_role = replica; SET LOCAL lock_timeout = ${Number(lockTimeoutMs)}`,
        );
        return await work(tx);
      }) as T;
    } catch (error) {
      if (!retryable.has(errorCode(error) ?? "")) throw error;
      if (attempt < attempts) continue;
      throw new AgentError(
        `Cannot change ${what}: other sessions hold it locked`,
        "end long transactions (see pg_stat_activity) and try again",
        { cause: error },
      );
    }
  }
}
