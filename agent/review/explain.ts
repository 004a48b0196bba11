// What the server says when it does not take a version back, as an error for people: which constraint, which table,
// which column. Never quotes the server's detail, which shows values; its message only with secret values masked.
import { AgentError, reason, RefusedError } from "../errors.ts";
import { errorCode, type Sql } from "../postgres/connect.ts";

export interface Attempt {
  readonly id: number;
  readonly schema: string;
  readonly table: string;
  /** For looking into the catalog once the transaction is over. */
  readonly sql: Sql;
  readonly mask: (text: string) => string;
}

interface ServerError {
  readonly schema_name?: string;
  readonly table_name?: string;
  readonly column_name?: string;
  readonly constraint_name?: string;
  readonly hint?: string;
}

/** The error to show for one that came out of the attempt. What is not the table's word stays as it is. */
export async function explain(error: unknown, attempt: Attempt): Promise<unknown> {
  const code = errorCode(error) ?? "";
  if (error instanceof AgentError || !/^[0-9A-Z]{5}$/.test(code)) return error;
  const said = error as ServerError;
  const constraint = said.constraint_name;
  const there = `${said.schema_name ?? attempt.schema}.${said.table_name ?? attempt.table}`;
  const here = `${attempt.schema}.${attempt.table}`;
  const refused = (what: string, remedy: string) =>
    new RefusedError(`Cannot restore conflict ${attempt.id}: ${what}`, remedy, { cause: error });
  switch (code) {
    case "23503":
    case "23001": {
      const parent = await parentOf(attempt.sql, said);
      return parent === null || there !== here
        ? refused(`rows of ${there} refer to its row (${constraint})`, `change or delete these rows of ${there} first`)
        : refused(`the row of ${parent} that it refers to is not there (${constraint} of ${here})`, `add it first`);
    }
    case "23505":
      return refused(
        `another row of ${there} has its value of the unique key ${constraint}`,
        "change or delete that row first, or let it stay: agent conflicts reviewed " + attempt.id,
      );
    case "23P01":
      return refused(
        `another row of ${there} excludes it (${constraint})`,
        "change or delete that row first, or let it stay: agent conflicts reviewed " + attempt.id,
      );
    case "23502":
      return refused(`column ${said.column_name} of ${there} must have a value now`, "add the row by hand");
    case "23514":
      return refused(
        constraint ? `it breaks the constraint ${constraint} of ${there}` : attempt.mask(reason(error)),
        "add the row by hand, in a form that the table takes",
      );
    case "55P03":
    case "57014":
    case "40P01":
    case "40001":
      return refused(`its row of ${here} is locked by another session`, "try again in a moment");
    default:
      // 22: the message quotes the value. The rest is PostgreSQL's, the guard's, or the application's own trigger's.
      return refused(
        code.startsWith("22") ? `a value does not fit its column of ${there}` : attempt.mask(reason(error)),
        said.hint ?? "see what the table asks for, and add the row by hand",
      );
  }
}

/** The table that a foreign key refers to; null if the error names none. */
async function parentOf(sql: Sql, { schema_name, table_name, constraint_name }: ServerError): Promise<string | null> {
  const [key] = await sql<{ parent: string }[]>`
    SELECT pn.nspname || '.' || p.relname AS parent
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
    WHERE k.contype = 'f' AND k.conname = ${constraint_name ?? ""} AND n.nspname = ${schema_name ?? ""}
      AND c.relname = ${table_name ?? ""} LIMIT 1`;
  return key?.parent ?? null;
}
