// Schema ha, version 4: guard triggers and replica identities of the user's tables, kept right as tables come and change.
// Never touches an explicit REPLICA IDENTITY FULL or a usable USING INDEX.

export const objects = `
-- Every user table, with the state of its guard trigger and the replica identity that it ought to have:
-- updates and deletes of a published table need one. A deferrable primary key does not count, as in PostgreSQL.
CREATE VIEW ha.user_table AS
  SELECT t.*, CASE
      WHEN NOT t.permanent THEN t.identity
      WHEN t.identity = 'i' AND t.has_identity_index THEN 'i'
      WHEN t.identity = 'f' AND NOT (t.has_key AND t.full_by_us) THEN 'f'
      WHEN t.has_key THEN 'd'
      ELSE 'f'
    END::"char" AS wanted_identity
  FROM (
    SELECT c.oid AS relation, n.nspname AS schema_name, c.relname AS table_name, c.relkind AS kind,
      c.relpersistence = 'p' AS permanent, c.relreplident AS identity,
      (SELECT g.tgenabled FROM pg_catalog.pg_trigger g
        WHERE g.tgrelid = c.oid AND g.tgname = 'ha_guard' AND g.tgfoid = 'ha.guard_write'::regproc) AS guard,
      EXISTS (SELECT FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS has_key,
      EXISTS (SELECT FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid) AS has_identity_index,
      EXISTS (SELECT FROM ha.identity_full f WHERE f.relation = c.oid) AS full_by_us
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('ha', 'pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
  ) t;

-- Gives one table its guard trigger and its replica identity. True if something was changed; takes no lock otherwise.
CREATE FUNCTION ha.ensure_table(rel oid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  t record;
  name text;
BEGIN
  SELECT * INTO t FROM ha.user_table u
    WHERE u.relation = rel AND (u.guard IS DISTINCT FROM 'O' OR u.identity <> u.wanted_identity);
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  name := format('%I.%I', t.schema_name, t.table_name);
  IF t.guard IS NULL THEN
    EXECUTE format('CREATE OR REPLACE TRIGGER ha_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
      'FOR EACH STATEMENT EXECUTE FUNCTION ha.guard_write()', name);
  ELSIF t.guard <> 'O' THEN
    EXECUTE format('ALTER TABLE ONLY %s ENABLE TRIGGER ha_guard', name);
  END IF;
  IF t.identity <> t.wanted_identity THEN
    -- Noted first: ALTER TABLE fires ha_table_made, which comes here again and must find nothing to do.
    IF t.wanted_identity = 'f' THEN
      INSERT INTO ha.identity_full (relation) VALUES (rel) ON CONFLICT DO NOTHING;
      EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', name);
    ELSE
      EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY DEFAULT', name);
      DELETE FROM ha.identity_full WHERE relation = rel;
    END IF;
  END IF;
  RETURN true;
END
$body$;

CREATE FUNCTION ha.table_made() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  made record;
BEGIN
  -- With a table come its partitions (a key made for the parent is made for them too) and the sequences it owns.
  -- CREATE and ALTER SEQUENCE hold the sequence's lock already; taking it again would come here again, without end.
  FOR made IN
    WITH named AS (
      SELECT c.oid, d.command_tag IN ('CREATE SEQUENCE', 'ALTER SEQUENCE') AS locked
      FROM pg_event_trigger_ddl_commands() d JOIN pg_class c ON c.oid = d.objid
      WHERE d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
    ), concerned AS (
      SELECT oid FROM named
      UNION SELECT p.relid FROM named, pg_partition_tree(named.oid) p
      UNION SELECT d.objid FROM named JOIN pg_depend d ON d.refobjid = named.oid
        WHERE d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    )
    SELECT c.oid, c.relkind, EXISTS (SELECT FROM named WHERE named.oid = c.oid AND named.locked) AS locked
    FROM concerned JOIN pg_class c USING (oid) WHERE c.relkind IN ('r', 'p', 'S') ORDER BY c.oid
  LOOP
    IF made.relkind <> 'S' THEN
      PERFORM ha.ensure_table(made.oid);
    ELSIF EXISTS (SELECT FROM ha.user_sequence u WHERE u.sequence = made.oid) THEN
      PERFORM ha.ensure_sequence(made.oid, NOT made.locked);
    END IF;
  END LOOP;
END
$body$;

CREATE FUNCTION ha.object_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
DECLARE
  gone record;
BEGIN
  FOR gone IN SELECT * FROM pg_event_trigger_dropped_objects() LOOP
    -- original: named by the command itself, not gone along with its table.
    IF gone.original AND gone.object_type = 'trigger' AND gone.address_names[3] = 'ha_guard'
      AND current_setting('session_replication_role') <> 'replica'
    THEN
      RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('Cannot drop trigger %s: it keeps a server that stands by from being written',
          gone.object_identity);
    END IF;
    IF gone.classid = 'pg_class'::regclass AND gone.objsubid = 0 THEN
      DELETE FROM ha.sequence WHERE sequence = gone.objid;
      DELETE FROM ha.identity_full WHERE relation = gone.objid;
    END IF;
  END LOOP;
END
$body$;

REVOKE EXECUTE ON FUNCTION ha.ensure_table(oid), ha.table_made(), ha.object_dropped() FROM PUBLIC;

CREATE EVENT TRIGGER ha_table_made ON ddl_command_end EXECUTE FUNCTION ha.table_made();
ALTER EVENT TRIGGER ha_table_made ENABLE ALWAYS;
CREATE EVENT TRIGGER ha_object_dropped ON sql_drop EXECUTE FUNCTION ha.object_dropped();
ALTER EVENT TRIGGER ha_object_dropped ENABLE ALWAYS;
`;
