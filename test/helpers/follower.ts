// A client connection that looks for a server that takes writes, as libpq does with host=A,B
// target_session_attrs=read-write, or for what a JDBC driver looks for. After a failure the next attempt makes a new connection; nothing is retried by itself.
import postgres from "postgres";
import { setTimeout as pause } from "node:timers/promises";
import type { Sql } from "../../agent/postgres/connect.ts";
import { within } from "./wait.ts";

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

/** Whether a connection that was just made is to the kind of server that is looked for. */
export type Accepts = (sql: Sql) => Promise<boolean>;

/** As libpq before PostgreSQL 14 does for read-write. */
const takesWrites: Accepts = async (sql) => {
  const [{ mode }] = await sql`
    SELECT CASE WHEN pg_is_in_recovery() THEN 'on' ELSE current_setting('transaction_read_only') END AS mode`;
  return mode === "off";
};

/** As the JDBC driver: what the server has reported of itself, then a question. */
const isPrimary: Accepts = async (sql) => {
  const [{ transaction_read_only }] = await sql`SHOW transaction_read_only`;
  return sql.parameters.in_hot_standby !== "on" && transaction_read_only === "off";
};

/** JDBC's targetServerType. */
export const targetServerTypes: { readonly [type in "primary" | "secondary"]: Accepts } = {
  primary: isPrimary,
  secondary: async (sql) => !await isPrimary(sql),
};

/** One client of an application. Not for concurrent use. */
export class Follower {
  readonly #target: ClientTarget;
  readonly #name: string;
  readonly #accepts: Accepts;
  #sql: Sql | undefined;
  #next = 0;
  #host: ClientTarget["hosts"][number] | undefined;

  constructor(target: ClientTarget, name: string, accepts: Accepts = takesWrites) {
    this.#target = target;
    this.#name = name;
    this.#accepts = accepts;
  }

  /** The host of the last connection; undefined before the first one. */
  get host(): ClientTarget["hosts"][number] | undefined {
    return this.#host;
  }

  /** A connection to a server of the wanted kind. Throws what the last host said if none is. */
  async connection(): Promise<Sql> {
    if (this.#sql) return this.#sql;
    let problem: unknown;
    for (let turn = 0; turn < this.#target.hosts.length; turn++) {
      const host = this.#target.hosts[this.#next++ % this.#target.hosts.length];
      const sql = openClient(this.#target, { name: this.#name, host });
      try {
        if (await within(2500, this.#accepts(sql))) {
          this.#next--;
          this.#host = host;
          return this.#sql = sql;
        }
        problem = new ReadOnlyServer(`${host.host}:${host.port} is not the kind of server that is looked for`);
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

/** What a client sees where it finds a server, but none of the wanted kind: it goes on looking. */
export class ReadOnlyServer extends Error {
  readonly code = "READ_ONLY_SERVER";
}
