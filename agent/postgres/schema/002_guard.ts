// Schema ha, version 2: the guard. Deny by default: no row in ha.state, or a postmaster that nobody opened, is closed.
// Ordinary (origin) triggers: they do not fire for the applier, which runs with session_replication_role = replica.

export const guard = `
CREATE FUNCTION ha.guard_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
DECLARE
  now_is record;
BEGIN
  SELECT s.role, s.state, s.writable AND s.opened_at = pg_postmaster_start_time() AS open
    INTO now_is FROM ha.state s;
  IF now_is.open IS TRUE THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction',
    MESSAGE = format('Cannot write here: this server is %s in state %s',
      coalesce(now_is.role, 'of no role'), coalesce(now_is.state, 'unknown')),
    HINT = 'Connect to the server that takes writes, e.g. with target_session_attrs=read-write.';
END
$body$;

CREATE FUNCTION ha.guard_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
DECLARE
  now_is record;
BEGIN
  SELECT s.role, s.state, s.writable AND s.opened_at = pg_postmaster_start_time() AS open
    INTO now_is FROM ha.state s;
  IF now_is.open IS TRUE THEN
    RETURN;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction',
    MESSAGE = format('Cannot run %s here: this server is %s in state %s', tg_tag,
      coalesce(now_is.role, 'of no role'), coalesce(now_is.state, 'unknown')),
    HINT = 'Connect to the server that takes writes, e.g. with target_session_attrs=read-write.';
END
$body$;

CREATE FUNCTION ha.guard_is_open() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
  SELECT coalesce((SELECT s.writable AND s.opened_at = pg_postmaster_start_time() FROM ha.state s), false)
$body$;

REVOKE EXECUTE ON FUNCTION ha.guard_write(), ha.guard_ddl() FROM PUBLIC;

CREATE EVENT TRIGGER ha_guard_ddl ON ddl_command_start EXECUTE FUNCTION ha.guard_ddl();
`;
