// Schema ha, version 8: what is for the primary only, as far as the database enforces it: triggers that refuse on the
// secondary. The primary has none of them: nothing is slower there, and no column of its tables is held by a trigger.
// The agent writes ha.primary_only; ha.ensure_table does the rest.

export const primaryOnly = `
CREATE TABLE ha.primary_only (
  schema_name text NOT NULL,
  table_name text NOT NULL,
  position int NOT NULL,
  operation text NOT NULL CHECK (operation IN ('insert', 'update', 'delete', 'truncate')),
  column_name text NOT NULL DEFAULT '' CHECK (column_name = '' OR operation = 'update'),
  message text NOT NULL,
  PRIMARY KEY (schema_name, table_name, position, operation, column_name)
);
COMMENT ON TABLE ha.primary_only IS
  'What agent.toml says is for the primary only, by table; it holds for the tables below it too (partitions, children)';
COMMENT ON COLUMN ha.primary_only.position IS 'Which [[primary_only]] of agent.toml: of two the first one speaks';
COMMENT ON COLUMN ha.primary_only.column_name IS 'Empty: any column';

-- Ordinary (origin) trigger: it fires for everybody, cascades too, but not for the applier. Never refuses on the
-- primary, should it stand there; not known to be the primary: refused.
CREATE FUNCTION ha.refuse_on_secondary() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
DECLARE
  now_is record;
BEGIN
  SELECT s.role, s.writable AND s.opened_at = pg_postmaster_start_time() AS open INTO now_is FROM ha.state s;
  -- A statement is no deed yet: an upsert that only inserts updates nothing. While the server serves, each row is
  -- looked at; a closed one takes nothing at all, and here comes before ha_guard with the reason that does not pass.
  IF now_is.role = 'primary' OR (tg_level = 'STATEMENT' AND tg_op <> 'TRUNCATE' AND now_is.open IS TRUE) THEN
    IF tg_op = 'DELETE' THEN
      RETURN OLD;
    END IF;
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'HA001',
    MESSAGE = tg_argv[0] || ' is available on the primary server only',
    HINT = 'Do it on the primary server, once that takes writes again.',
    SCHEMA = tg_table_schema, TABLE = tg_table_name, COLUMN = coalesce(tg_argv[1], '');
END
$body$;

-- The triggers that a table ought to have here by the rules for it and for all that it is a part of.
-- made_by is null for a column that the table has not: what stands under that name stays as it is.
--   s: before the statement, on a closed server. r: each row. v: a value changed by another trigger, not by SET.
-- Rows have their triggers on the table that holds them: one that PostgreSQL copies from a partitioned table would keep
-- a table that has it already from being attached. Inserted rows are seen afterwards: before, a row may become an update.
CREATE FUNCTION ha.rule_triggers(rel oid) RETURNS TABLE (trigger_name text, attnum int2, made_by text)
LANGUAGE sql STABLE SET search_path = pg_catalog, ha, pg_temp AS $body$
  WITH RECURSIVE above AS (
    SELECT rel AS oid WHERE (SELECT s.role FROM ha.state s) IS DISTINCT FROM 'primary'
    UNION SELECT i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid
  ), rule AS (
    SELECT DISTINCT p.position, p.operation, p.column_name, p.message, format('ha_for_primary_%s_%s',
      lpad(p.position::text, 4, '0'), left(md5(concat_ws(' ', p.operation, p.column_name, p.message)), 8)) AS name
    FROM above JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN ha.primary_only p ON p.schema_name = n.nspname AND p.table_name = c.relname
  ), found AS (
    SELECT rule.*, a.attnum, rule.column_name = '' OR a.attnum IS NOT NULL AS fits, c.relkind, c.relname, n.nspname
    FROM rule JOIN pg_class c ON c.oid = rel JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_attribute a ON a.attrelid = rel AND a.attname = rule.column_name AND a.attnum > 0
        AND NOT a.attisdropped AND a.attgenerated = ''
  ), shape AS (
    SELECT 's' AS suffix, 'BEFORE' AS moment, 'STATEMENT' AS level, ARRAY['insert', 'update', 'delete', 'truncate'] AS of
    UNION ALL SELECT 'r', 'BEFORE', 'ROW', ARRAY['update', 'delete']
    UNION ALL SELECT 'r', 'AFTER', 'ROW', ARRAY['insert']
    UNION ALL SELECT 'v', 'AFTER', 'ROW', ARRAY['update']
  )
  SELECT f.name || '_' || s.suffix, f.attnum, CASE WHEN f.fits THEN
      format('CREATE OR REPLACE TRIGGER %I %s %s', f.name || '_' || s.suffix, s.moment, upper(f.operation))
      || CASE WHEN s.suffix <> 'v' AND f.column_name <> '' THEN format(' OF %I', f.column_name) ELSE '' END
      || format(' ON %I.%I FOR EACH %s', f.nspname, f.relname, s.level)
      -- Compared as stored: not every type has an equality, and for some that has, 'a' equals 'A'.
      || CASE WHEN s.suffix = 'v' THEN format(
        ' WHEN (pg_catalog.record_image_ne(ROW(OLD.%1$I), ROW(NEW.%1$I)))', f.column_name) ELSE '' END
      || format(' EXECUTE FUNCTION ha.refuse_on_secondary(%L, %L)', f.message, f.column_name)
    END
  FROM found f JOIN shape s ON f.operation = ANY (s.of)
  WHERE (s.level = 'STATEMENT' OR f.relkind = 'r') AND (s.suffix <> 'v' OR f.column_name <> '')
$body$;

-- What is to be done about the triggers of a table: made anew, or dropped where made_by is null.
CREATE FUNCTION ha.rules_due(rel oid) RETURNS TABLE (trigger_name text, made_by text)
LANGUAGE sql STABLE SET search_path = pg_catalog, ha, pg_temp AS $body$
  SELECT coalesce(w.trigger_name, g.tgname), w.made_by
  FROM ha.rule_triggers(rel) w FULL JOIN (
    SELECT * FROM pg_trigger WHERE tgrelid = rel AND tgfoid = 'ha.refuse_on_secondary'::regproc
  ) g ON g.tgname = w.trigger_name
  WHERE w.trigger_name IS NULL
    OR (w.made_by IS NOT NULL AND (g.oid IS NULL OR g.tgenabled <> 'O'
      -- The column of that name is another one now. The trigger without a list of columns is told by what it needs.
      OR (w.attnum IS NOT NULL AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_trigger'::regclass AND d.objid = g.oid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = rel AND d.refobjsubid = w.attnum))))
$body$;

CREATE OR REPLACE VIEW ha.table_due AS
  SELECT u.* FROM ha.user_table u
  WHERE u.guard IS DISTINCT FROM 'O' OR u.identity <> u.wanted_identity
    OR u.append_only IS DISTINCT FROM CASE WHEN u.wanted_append_only THEN 'O'::"char" END
    OR ((EXISTS (SELECT FROM ha.primary_only)
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger g
          WHERE g.tgrelid = u.relation AND g.tgfoid = 'ha.refuse_on_secondary'::regproc))
      AND EXISTS (SELECT FROM ha.rules_due(u.relation)));

ALTER FUNCTION ha.ensure_table(oid) RENAME TO ensure_guard_and_policy;

-- Gives one table its triggers and its replica identity. True if something was changed; takes no lock otherwise.
CREATE FUNCTION ha.ensure_table(rel oid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  due record;
BEGIN
  IF NOT ha.ensure_guard_and_policy(rel) THEN
    RETURN false;
  END IF;
  FOR due IN SELECT * FROM ha.rules_due(rel) ORDER BY made_by IS NULL LOOP
    IF due.made_by IS NOT NULL THEN
      EXECUTE due.made_by;
    ELSE
      EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', due.trigger_name, rel::regclass);
    END IF;
  END LOOP;
  RETURN true;
END
$body$;

CREATE FUNCTION ha.rule_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
DECLARE
  gone record;
BEGIN
  FOR gone IN SELECT * FROM pg_event_trigger_dropped_objects() LOOP
    -- original: named by the command itself, not gone along with its table or column.
    IF gone.original AND gone.object_type = 'trigger' AND gone.address_names[3] LIKE 'ha\\_for\\_primary\\_%' THEN
      RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('Cannot drop trigger %s: it keeps the secondary from what is for the primary only',
          gone.object_identity),
        HINT = 'Take the rule out of [[primary_only]] in agent.toml on both servers, and restart the agents.';
    END IF;
  END LOOP;
END
$body$;

REVOKE EXECUTE ON FUNCTION ha.refuse_on_secondary(), ha.rule_triggers(oid), ha.rules_due(oid), ha.ensure_table(oid),
  ha.rule_dropped() FROM PUBLIC;

-- An ordinary one: the agent itself, which runs as replica, may drop them.
CREATE EVENT TRIGGER ha_rule_dropped ON sql_drop EXECUTE FUNCTION ha.rule_dropped();
`;
