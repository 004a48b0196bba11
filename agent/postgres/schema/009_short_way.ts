// Schema ha, version 9: the guard's short way, and opening and closing in one call. An open guard costs every statement
// that writes, and a query would be most of that. So the trigger's function itself is made to say for which postmaster it
// is open. It is made anew whenever ha.state opens or closes, in the same transaction; whom it does not let pass is judged
// by ha.state, as before.

export const shortWay = `
CREATE FUNCTION ha.refuse_if_closed() RETURNS void
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
    MESSAGE = format('Cannot write here: this server is %s in state %s',
      coalesce(now_is.role, 'of no role'), coalesce(now_is.state, 'unknown')),
    HINT = 'Connect to the server that takes writes, e.g. with target_session_attrs=read-write.';
END
$body$;

-- What ha.guard_write ought to be by ha.state as it is now. It runs as whoever writes, with his search_path: so each name
-- is written out, operators too. SECURITY DEFINER and SET would cost more than the rest. One expression and no more, as
-- each is made ready anew in each transaction; what a trigger for a statement returns does not matter, and NEW is none.
CREATE FUNCTION ha.guard_source() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, ha, pg_temp SET datestyle = 'ISO, YMD' SET timezone = 'UTC' AS $body$
  SELECT E'\\nBEGIN\\n' || coalesce((
      SELECT format('  IF pg_catalog.pg_postmaster_start_time() OPERATOR(pg_catalog.<>) %L::pg_catalog.timestamptz THEN '
        'PERFORM ha.refuse_if_closed(); END IF;', s.opened_at)
      FROM ha.state s WHERE s.writable AND s.opened_at = pg_postmaster_start_time()
    ), '  PERFORM ha.refuse_if_closed();') || E'\\n  RETURN NEW;\\nEND\\n'
$body$;

CREATE FUNCTION ha.make_guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  wanted text := ha.guard_source();
BEGIN
  IF wanted IS DISTINCT FROM (SELECT p.prosrc FROM pg_proc p WHERE p.oid = 'ha.guard_write'::regproc) THEN
    EXECUTE format('CREATE OR REPLACE FUNCTION ha.guard_write() RETURNS trigger STABLE LANGUAGE plpgsql AS %L', wanted);
  END IF;
  RETURN NULL;
END
$body$;

CREATE TRIGGER ha_make_guard AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ha.state
  FOR EACH STATEMENT EXECUTE FUNCTION ha.make_guard();
-- Whoever writes ha.state has switched ordinary triggers off for himself.
ALTER TABLE ha.state ENABLE ALWAYS TRIGGER ha_make_guard;

-- Opens or closes this database, for whoever connects as well. One call, as nobody takes writes while it lasts.
-- What is null stays as it is. False: no role is written into ha.state.
CREATE FUNCTION ha.change_guard(writes boolean, of_epoch bigint, in_state text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica AS $body$
BEGIN
  UPDATE ha.state SET writable = writes, opened_at = CASE WHEN writes THEN pg_postmaster_start_time() END,
    epoch = coalesce(of_epoch, epoch), state = coalesce(in_state, state), updated_at = now();
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = %s', current_database(),
    CASE WHEN writes THEN 'off' ELSE 'on' END);
  RETURN true;
END
$body$;

GRANT EXECUTE ON FUNCTION ha.refuse_if_closed() TO PUBLIC;
REVOKE EXECUTE ON FUNCTION ha.guard_source(), ha.make_guard(), ha.change_guard(boolean, bigint, text) FROM PUBLIC;

-- An agent that is newer than the one which opened the guard.
UPDATE ha.state SET writable = writable;
`;
