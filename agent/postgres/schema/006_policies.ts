// Schema ha, version 6: the policies of tables as far as the database enforces them: append_only by a trigger, and the
// replica identity that merge_columns needs. The agent writes ha.policy; ha.ensure_table does the rest.

export const policies = `
CREATE TABLE ha.policy (
  schema_name text NOT NULL,
  table_name text NOT NULL,
  rows text NOT NULL,
  PRIMARY KEY (schema_name, table_name)
);
COMMENT ON TABLE ha.policy IS 'What agent.toml comes to for each table: the policy of rows that both sides wrote';

ALTER TABLE ha.identity_full ADD COLUMN index_before oid;
COMMENT ON TABLE ha.identity_full IS
  'Tables that were given REPLICA IDENTITY FULL here, for want of a primary key or for merge_columns';
COMMENT ON COLUMN ha.identity_full.index_before IS 'The index that was the replica identity before';

-- Ordinary (origin) trigger: it fires for everybody, cascades too, but not for the applier.
CREATE FUNCTION ha.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'HA002',
    MESSAGE = format('Cannot change %I.%I: its rows are only ever added', tg_table_schema, tg_table_name),
    HINT = 'Add a row that corrects the former one, or give the table another policy than append_only in agent.toml.',
    SCHEMA = tg_table_schema, TABLE = tg_table_name;
END
$body$;

-- As in version 4, with the table's policy. A partition that the agent has not looked at yet has the policy of its root.
CREATE OR REPLACE VIEW ha.user_table AS
  SELECT t.relation, t.schema_name, t.table_name, t.kind, t.permanent, t.identity, t.guard, t.has_key,
    t.has_identity_index, t.full_by_us,
    CASE
      WHEN NOT t.permanent THEN t.identity
      WHEN t.policy = 'merge_columns' THEN 'f'
      WHEN t.identity = 'i' AND t.has_identity_index THEN 'i'
      WHEN t.identity = 'f' AND t.full_by_us AND t.index_before IS NOT NULL THEN 'i'
      WHEN t.identity = 'f' AND NOT (t.has_key AND t.full_by_us) THEN 'f'
      WHEN t.has_key THEN 'd'
      ELSE 'f'
    END::"char" AS wanted_identity,
    t.append_only, t.policy IS NOT DISTINCT FROM 'append_only' AS wanted_append_only, t.index_before
  FROM (
    SELECT c.oid AS relation, n.nspname AS schema_name, c.relname AS table_name, c.relkind AS kind,
      c.relpersistence = 'p' AS permanent, c.relreplident AS identity,
      (SELECT g.tgenabled FROM pg_catalog.pg_trigger g
        WHERE g.tgrelid = c.oid AND g.tgname = 'ha_guard' AND g.tgfoid = 'ha.guard_write'::regproc) AS guard,
      EXISTS (SELECT FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS has_key,
      EXISTS (SELECT FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid) AS has_identity_index,
      EXISTS (SELECT FROM ha.identity_full f WHERE f.relation = c.oid) AS full_by_us,
      (SELECT g.tgenabled FROM pg_catalog.pg_trigger g
        WHERE g.tgrelid = c.oid AND g.tgname = 'ha_append_only' AND g.tgfoid = 'ha.refuse_change'::regproc) AS append_only,
      coalesce(
        (SELECT p.rows FROM ha.policy p WHERE p.schema_name = n.nspname AND p.table_name = c.relname),
        (SELECT p.rows FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
            JOIN ha.policy p ON p.schema_name = s.nspname AND p.table_name = r.relname
          WHERE c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid))) AS policy,
      (SELECT i.indexrelid FROM ha.identity_full f JOIN pg_catalog.pg_index i ON i.indexrelid = f.index_before
        WHERE f.relation = c.oid AND i.indrelid = c.oid AND i.indisvalid AND i.indisunique AND i.indimmediate
      ) AS index_before
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('ha', 'pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'
  ) t;

-- The tables that ha.ensure_table has something to do with.
CREATE VIEW ha.table_due AS
  SELECT u.* FROM ha.user_table u
  WHERE u.guard IS DISTINCT FROM 'O' OR u.identity <> u.wanted_identity
    OR u.append_only IS DISTINCT FROM CASE WHEN u.wanted_append_only THEN 'O'::"char" END;

-- Gives one table its triggers and its replica identity. True if something was changed; takes no lock otherwise.
CREATE OR REPLACE FUNCTION ha.ensure_table(rel oid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  t record;
  name text;
  index_now oid;
BEGIN
  SELECT * INTO t FROM ha.table_due u WHERE u.relation = rel;
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
  IF t.append_only IS NOT NULL AND NOT t.wanted_append_only THEN
    EXECUTE format('DROP TRIGGER IF EXISTS ha_append_only ON %s', name);
  ELSIF t.append_only IS NULL AND t.wanted_append_only THEN
    EXECUTE format('CREATE OR REPLACE TRIGGER ha_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s '
      'FOR EACH STATEMENT EXECUTE FUNCTION ha.refuse_change()', name);
  ELSIF t.append_only <> 'O' THEN
    EXECUTE format('ALTER TABLE ONLY %s ENABLE TRIGGER ha_append_only', name);
  END IF;
  IF t.identity <> t.wanted_identity THEN
    -- Noted first: ALTER TABLE fires ha_table_made, which comes here again and must find nothing to do.
    IF t.wanted_identity = 'f' THEN
      SELECT i.indexrelid INTO index_now FROM pg_index i WHERE i.indrelid = rel AND i.indisreplident AND i.indisvalid;
      INSERT INTO ha.identity_full (relation, index_before) VALUES (rel, index_now) ON CONFLICT DO NOTHING;
      EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY FULL', name);
    ELSIF t.wanted_identity = 'i' THEN
      EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY USING INDEX %I', name,
        (SELECT c.relname FROM pg_class c WHERE c.oid = t.index_before));
      DELETE FROM ha.identity_full WHERE relation = rel;
    ELSE
      EXECUTE format('ALTER TABLE ONLY %s REPLICA IDENTITY DEFAULT', name);
      DELETE FROM ha.identity_full WHERE relation = rel;
    END IF;
  END IF;
  RETURN true;
END
$body$;

CREATE OR REPLACE FUNCTION ha.object_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
DECLARE
  gone record;
BEGIN
  FOR gone IN SELECT * FROM pg_event_trigger_dropped_objects() LOOP
    -- original: named by the command itself, not gone along with its table.
    IF gone.original AND gone.object_type = 'trigger' AND current_setting('session_replication_role') <> 'replica' THEN
      IF gone.address_names[3] = 'ha_guard' THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
          MESSAGE = format('Cannot drop trigger %s: it keeps a server that stands by from being written',
            gone.object_identity);
      ELSIF gone.address_names[3] = 'ha_append_only' THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
          MESSAGE = format('Cannot drop trigger %s: it keeps the rows of an append_only table as they are',
            gone.object_identity),
          HINT = 'Give the table another policy in agent.toml on both servers, and restart the agents.';
      END IF;
    END IF;
    IF gone.classid = 'pg_class'::regclass AND gone.objsubid = 0 THEN
      DELETE FROM ha.sequence WHERE sequence = gone.objid;
      DELETE FROM ha.identity_full WHERE relation = gone.objid;
    END IF;
  END LOOP;
END
$body$;

REVOKE EXECUTE ON FUNCTION ha.refuse_change() FROM PUBLIC;
`;
