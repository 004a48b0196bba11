// Why the agent's role has to be a superuser: with everything that can be granted in its stead, some of its statements are
// still refused, in each supported version. Where PostgreSQL comes to allow them, this fails, and README is to be corrected.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setupPrimary } from "../../agent/setup/primary.ts";
import { homeAt } from "../../agent/home.ts";
import { Steps } from "../../agent/setup/steps.ts";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { versions, withServer } from "../helpers/servers.ts";

/** What the agent does that a role with all grants may do too. */
const granted = [
  "SET session_replication_role = replica",
  "SELECT pg_replication_origin_create('trial')",
  "SELECT pg_replication_origin_session_setup('trial')",
  "ALTER DATABASE shop SET default_transaction_read_only = off",
  "CREATE SCHEMA ha_trial",
  "SELECT pg_create_logical_replication_slot('trial', 'pgoutput')",
  "SELECT pg_logical_emit_message(true, 'ha_mark', 'x')",
  "CREATE FUNCTION ha_trial.f() RETURNS int LANGUAGE sql SET session_replication_role = replica AS 'SELECT 1'",
  "ALTER TABLE sale REPLICA IDENTITY FULL",
  "SELECT count(*) FROM pg_stat_activity WHERE query IS NOT NULL",
];

/** What only a superuser may. */
const refused = [
  "CREATE EVENT TRIGGER trial ON ddl_command_start EXECUTE FUNCTION trial_event()",
  "CREATE PUBLICATION trial FOR ALL TABLES",
  "ALTER TABLE of_another REPLICA IDENTITY FULL",
  "UPDATE pg_subscription SET subenabled = false",
  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres' AND pid <> pg_backend_pid()",
];

for (const version of versions) {
  test(`PostgreSQL ${version}: grants do not make up for a superuser`, async () => {
    await withServer(version, async (server) => {
      const admin = server.pool();
      await admin.unsafe("CREATE ROLE keeper LOGIN REPLICATION CREATEDB CREATEROLE BYPASSRLS");
      await admin.unsafe("CREATE DATABASE shop OWNER keeper");
      const shop = server.pool({ database: "shop", max: 1 });
      const given = ["pg_monitor", "pg_signal_backend", "pg_read_all_data", "pg_write_all_data", "pg_checkpoint"];
      if (version >= 16) given.push("pg_create_subscription");
      if (version >= 17) given.push("pg_maintain");
      await shop.unsafe(`GRANT ${given.join(", ")} TO keeper; GRANT SET ON PARAMETER session_replication_role TO keeper;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_catalog TO keeper;
        CREATE TABLE of_another (id int PRIMARY KEY); CREATE TABLE sale (id int PRIMARY KEY); ALTER TABLE sale OWNER TO keeper;
        GRANT ALL ON of_another TO keeper; GRANT ALL ON SCHEMA public TO keeper;
        CREATE FUNCTION trial_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'`);
      const keeper = server.pool({ database: "shop", user: "keeper", max: 1 });
      for (const statement of granted) await keeper.unsafe(statement);
      await keeper.unsafe("SELECT pg_replication_origin_session_reset(); SELECT pg_drop_replication_slot('trial')");
      for (const statement of refused) {
        await assert.rejects(keeper.unsafe(statement), { code: "42501" }, `${statement} must be refused`);
      }
      const key = join(server.folder, "key");
      writeFileSync(key, randomBytes(48), { mode: 0o600 });
      const { host, port } = server.target();
      const database = `postgres://keeper@localhost:${port}/shop?host=${encodeURIComponent(host)}`;
      await assert.rejects(
        setupPrimary(
          homeAt(join(server.folder, "home")),
          { primary: "127.0.0.1:18281", secondary: "127.0.0.1:18282" },
          { database, key },
          new Steps(),
        ),
        (error: Error & { remedy: string; exitCode: number }) => {
          assert.match(error.message, /superuser is off, needed is on/);
          assert.match(error.remedy, /event trigger/);
          return error.exitCode === 3;
        },
      );
    });
  });
}
