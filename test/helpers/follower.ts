// A client connection that looks for a server that takes writes, as libpq does with host=A,B
// target_session_attrs=read-write. After a failure the next attempt makes a new connection; nothing is retried by itself.
import postgres from "postgres";
import { setTimeout as pause } from "node:timers/promises";
import type { Sql } from "../../agent/postgres/connect.ts";

export interface ClientTarget {
  /** One host, or several that are tried in turn. */
  hosts: { host: string; port: number }[];
  database: string;
  user: string;
  password?: string;
}

/** A pool of an application's connections to one host. */
export function openClient(
  target: ClientTarget,
  { name = "application", max = 1, host = target.hosts[0] }: {
    name?: string;
    max?: number;
    host?: { host: string; port: number };
  } = {},
): Sql {
  return postgres({
    ...host,
    database: target.database,
    user: target.user,
    password: target.password,
    max,
    max_lifetime: null,
    connect_timeout: 2,
    backoff: () => 0.1,
    onnotice: () => {},
    connection: { application_name: name },
  });
}

export class TimedOut extends Error {
  readonly code = "TIMED_OUT";
}

/** Rejects after `ms`: a connection to a server that was killed may never answer. */
async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new TimedOut(`Cannot go on: no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** One client of an application. Not for concurrent use. */
export class Follower {
  readonly #target: ClientTarget;
  readonly #name: string;
  #sql: Sql | undefined;
  #next = 0;

  constructor(target: ClientTarget, name: string) {
    this.#target = target;
    this.#name = name;
  }

  /** A connection to a server that takes writes. Throws what the last host said if none does. */
  async connection(): Promise<Sql> {
    if (this.#sql) return this.#sql;
    let problem: unknown;
    for (let turn = 0; turn < this.#target.hosts.length; turn++) {
      const host = this.#target.hosts[this.#next++ % this.#target.hosts.length];
      const sql = openClient(this.#target, { name: this.#name, host });
      try {
        const [row] = await within(
          2500,
          sql<
            { mode: string }[]
          >`SELECT CASE WHEN pg_is_in_recovery() THEN 'on' ELSE current_setting('transaction_read_only') END AS mode`,
        );
        if (row.mode === "off") {
          this.#next--;
          return this.#sql = sql;
        }
        problem = new ReadOnlyServer(`${host.host}:${host.port} is read-only`);
      } catch (error) {
        problem = error;
      }
      this.#drop(sql);
    }
    throw problem;
  }

  /** Runs one piece of work. A connection that fails is given up; the next call looks for a server anew. */
  async run<T>(work: (sql: Sql) => Promise<T>, timeoutMs = 10_000): Promise<T> {
    const sql = await this.connection();
    try {
      return await within(timeoutMs, work(sql));
    } catch (error) {
      this.#sql = undefined;
      this.#drop(sql);
      throw error;
    }
  }

  /** The same until it succeeds; for what may be done twice. */
  async persist<T>(work: (sql: Sql) => Promise<T>, deadlineMs: number): Promise<T> {
    const end = performance.now() + deadlineMs;
    while (true) {
      try {
        return await this.run(work);
      } catch (error) {
        if (performance.now() > end) throw error;
        await pause(50);
      }
    }
  }

  #drop(sql: Sql): void {
    // Whatever is still under way on it has been given up already.
    sql.end({ timeout: 0 }).catch(() => {});
  }

  async close(): Promise<void> {
    await this.#sql?.end({ timeout: 2 });
    this.#sql = undefined;
  }
}

/** What a client sees where it finds a server, but none that takes writes: it goes on looking. */
export class ReadOnlyServer extends Error {
  readonly code = "READ_ONLY_SERVER";
}
