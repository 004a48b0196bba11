// The worked example: schema `vault`, an application's accounts, their passwords, folders and audit trail.
// The secrets are random bytes made by the database; none of them means anything.
import { readFileSync } from "node:fs";
import type { Sql } from "../../agent/postgres/connect.ts";

const example = new URL("../../example/vault.sql", import.meta.url);

/** Makes the schema and about 2,500 rows in it. */
export async function makeVault(sql: Sql): Promise<void> {
  await sql.unsafe(readFileSync(example, "utf8")).simple();
}

/** An application's password change: the old one kept, the new one set, the deed recorded. Returns the new version. */
export async function changePassword(sql: Sql, accountId: number, personId: number): Promise<number> {
  return await sql.begin(async (tx) => {
    await tx`INSERT INTO vault.password_history (account_id, version, secret)
             SELECT account_id, version, secret FROM vault.password WHERE account_id = ${accountId}
             ON CONFLICT DO NOTHING`;
    const [row] = await tx<{ version: number }[]>`
      UPDATE vault.password SET secret = decode(md5(random()::text), 'hex'), version = version + 1, changed_at = now()
      WHERE account_id = ${accountId} RETURNING version`;
    await tx`INSERT INTO vault.audit (person_id, account_id, action, detail)
             VALUES (${personId}, ${accountId}, 'change', jsonb_build_object('version', ${row.version}::int))`;
    return row.version;
  });
}
