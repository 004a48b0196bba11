// Opens pools of connections to one PostgreSQL server. int8, numeric and pg_lsn stay text, as PostgreSQL sends them.
// Never puts a password into an error, and never lets the database's read-only default bind the agent itself.
import postgres from "postgres";
import { AgentError, reason, UnreachableError } from "../errors.ts";

// deno-lint-ignore ban-types -- the type that porsager itself gives a pool without own types
export type Sql = postgres.Sql<{}>;

/** Where a server listens. `host` is a host name, an address, or the absolute folder of its unix socket. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password?: string;
}

export interface PoolOptions {
  /** Shown as application_name `hapair <purpose>`; the guard spares sessions named so. */
  readonly purpose: string;
  readonly max?: number;
  /** Further settings of each session, e.g. `{ statement_timeout: "5000" }` or `{ replication: "database" }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Told when a connection has closed, whoever closed it. */
  readonly onClose?: () => void;
  /** Keeps idle connections open; the default closes them after a minute. */
  readonly lasting?: boolean;
}

/** A pool that connects when first used. The caller ends it with `sql.end()`. */
export function openPool(
  target: Target,
  { purpose, max = 4, settings = {}, onClose, lasting = false }: PoolOptions,
): Sql {
  return postgres({
    host: target.host,
    port: target.port,
    database: target.database,
    user: target.user,
    // A function, as porsager would put PGPASSWORD, which is not meant for this server, in place of an empty text.
    password: () => target.password ?? "",
    max,
    max_lifetime: null,
    idle_timeout: lasting ? 0 : 60,
    connect_timeout: 5,
    // A replication session takes no extended queries, so it cannot look up array types either.
    fetch_types: settings.replication === undefined,
    onnotice: () => {},
    ...(onClose ? { onclose: () => onClose() } : {}),
    connection: {
      application_name: `hapair ${purpose}`,
      ...(settings.replication === undefined ? readWrite : {}),
      ...settings,
    },
  });
}

// porsager types this setting as boolean but drops what is false; the text is what reaches the server.
const readWrite = { default_transaction_read_only: "off" as unknown as boolean };

const unreachableCodes = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ENOENT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
  "57P01", // admin_shutdown
  "57P02", // crash_shutdown
  "57P03", // cannot_connect_now: starting up or shutting down
  "53300", // too_many_connections
]);

/** The SQLSTATE, or the code of the connection error; undefined where there is none. */
export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : undefined;
}

/** True if the server could not be reached or went away, so that trying again later makes sense. */
export function isUnreachable(error: unknown): boolean {
  return error instanceof UnreachableError || unreachableCodes.has(errorCode(error) ?? "");
}

/** The error to show for one that came out of a pool: a lost or refused connection gets its remedy, others stay. */
export function connectionError(error: unknown, target: Target): Error {
  if (error instanceof AgentError) return error;
  const where = `${target.host}:${target.port}/${target.database}`;
  if (isUnreachable(error)) {
    return new UnreachableError(
      `Cannot reach PostgreSQL at ${where}: ${reason(error)}`,
      "see that the server runs and listens there, and read its log",
      { cause: error },
    );
  }
  const code = errorCode(error);
  if (code?.startsWith("28")) {
    return new AgentError(
      `Cannot log in to PostgreSQL at ${where} as ${target.user}: ${reason(error)}`,
      "correct user and password, or the server's pg_hba.conf",
      { cause: error },
    );
  }
  if (code === "3D000") {
    return new AgentError(
      `Cannot use database ${target.database} at ${target.host}:${target.port}: it does not exist`,
      "create it, or name another one with --dbname",
      { cause: error },
    );
  }
  return error instanceof Error ? error : new Error(String(error));
}
