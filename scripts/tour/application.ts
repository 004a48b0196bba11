// The quickstart's application: changes passwords of the vault example all the time, knowing both hosts and nothing of the
// pair. Keeps account of what was acknowledged to it. Sends each write once: a lost answer is not asked for again.
import { setTimeout as pause } from "node:timers/promises";
import postgres from "postgres";
import { UnreachableError } from "../../agent/errors.ts";
import { errorCode, isUnreachable, type Sql } from "../../agent/postgres/connect.ts";
import { withDeadline } from "../../agent/postgres/deadline.ts";
import type { Address } from "./place.ts";

export interface Login {
  readonly hosts: readonly Address[];
  readonly password: string;
}

/** A connection to one host, whatever its state. */
export function connect({ host, port }: Address, password: string): Sql {
  return postgres({
    host,
    port,
    database: "app",
    user: "app",
    password,
    max: 1,
    connect_timeout: 2,
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: "vault" },
  });
}

/** host=A,B target_session_attrs=read-write, as libpq does it: each host in turn, the first that takes writes. */
async function connectReadWrite({ hosts, password }: Login): Promise<Sql> {
  for (const host of hosts) {
    const sql = connect(host, password);
    try {
      const [{ readOnly }] = await sql`SELECT current_setting('transaction_read_only') AS "readOnly"`;
      if (readOnly === "off") return sql;
    } catch (error) {
      if (!isUnreachable(error)) throw error;
    }
    await sql.end({ timeout: 0 });
  }
  throw new UnreachableError("Cannot connect: no host takes writes", "try again");
}

/** No answer for so long: the connection is given up. */
const answerMs = 3000;

/** One password change with its entry in the audit trail, in one transaction. */
export async function changePassword(sql: Sql, account: number, write: string): Promise<void> {
  await sql.begin(async (tx) => {
    await tx`UPDATE vault.password SET secret = decode(md5(${write}), 'hex'), version = version + 1, changed_at = now()
      WHERE account_id = ${account}`;
    await tx`INSERT INTO vault.audit (account_id, action, detail)
      VALUES (${account}, 'change', jsonb_build_object('write', ${write}::text))`;
  });
}

export class Application {
  /** When each write was acknowledged, by performance.now(). */
  readonly acknowledged = new Map<string, number>();
  private unexpected: unknown;
  private going = true;
  private readonly done: Promise<void>;

  constructor(private readonly login: Login) {
    this.done = this.work();
  }

  private async work(): Promise<void> {
    let sql: Sql | undefined;
    for (let n = 1; this.going; n++) {
      const write = `write ${n}`;
      try {
        sql ??= await connectReadWrite(this.login);
        await withDeadline(changePassword(sql, 1 + n % 400, write), answerMs, "change a password");
        this.acknowledged.set(write, performance.now());
      } catch (error) {
        // 25006: the server has become read-only under this connection; a new one finds the other server.
        if (!isUnreachable(error) && errorCode(error) !== "25006") {
          this.unexpected = error;
          break;
        }
        await sql?.end({ timeout: 0 });
        sql = undefined;
      }
      await pause(10);
    }
    await sql?.end({ timeout: 1 });
  }

  /** The longest time without an acknowledged write between two moments. */
  longestGap(from: number, to: number): number {
    const times = [...this.acknowledged.values()].filter((at) => at > from && at < to);
    return Math.max(...[from, ...times].map((at, n) => (times[n] ?? to) - at));
  }

  /** Resolves with the time of the first write acknowledged after `from`. */
  ackAfter(from: number): number | undefined {
    if (this.unexpected) throw this.unexpected;
    const last = [...this.acknowledged.values()].at(-1);
    return last !== undefined && last > from ? [...this.acknowledged.values()].find((at) => at > from) : undefined;
  }

  /** Lets the write under way end. Throws what the application should not have seen. */
  async stop(): Promise<void> {
    this.going = false;
    await this.done;
    if (this.unexpected) throw this.unexpected;
  }
}

/** Acknowledged writes that are not in the audit trail exactly once. */
export async function lostWrites(sql: Sql, acknowledged: Iterable<string>): Promise<string[]> {
  const rows = await sql<{ write: string; count: number }[]>`
    SELECT detail ->> 'write' AS write, count(*)::int AS count FROM vault.audit WHERE detail ? 'write' GROUP BY 1`;
  const counts = new Map(rows.map(({ write, count }) => [write, count]));
  return [...acknowledged].filter((write) => counts.get(write) !== 1);
}
