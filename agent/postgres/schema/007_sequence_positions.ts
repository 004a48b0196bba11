// Schema ha, version 7: every sequence at a glance, and sequences that follow those of the peer. Replication carries no
// sequence, so the node that writes tells how far its own have come; a row told is kept until the own sequence is beyond it.

export const sequencePositions = `
CREATE TABLE ha.sequence_position (
  schema_name text NOT NULL,
  sequence_name text NOT NULL,
  last_value bigint NOT NULL,
  told_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (schema_name, sequence_name)
);
COMMENT ON TABLE ha.sequence_position IS
  'The last values that the peer has given out, where the sequence of this node has yet to be looked at for them';

CREATE FUNCTION ha.read_sequence(schema_name text, sequence_name text)
RETURNS TABLE (last_value bigint, is_called boolean)
LANGUAGE plpgsql ROWS 1 AS $body$
BEGIN
  RETURN QUERY EXECUTE format('SELECT last_value, is_called FROM %I.%I', schema_name, sequence_name);
END
$body$;

-- As ha.parity, in a form that the planner takes into the query.
CREATE FUNCTION ha.value_class(v numeric, k numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS $body$
  SELECT abs(mod(div(v - mod(mod(v, k) + k, k), k), 2))
$body$;

-- Every user sequence as it is. fits: ha.ensure_sequence has nothing to do. given: the last value that is taken or passed
-- by; upcoming: the next one, beyond the range where there is none. told: the peer has told of its own, which has reached
-- so far; passes: the value of this node's to be passed by for it, if any. column_max: the most that the column takes to
-- which the sequence belongs.
CREATE VIEW ha.sequence_state AS
  SELECT s.sequence, s.schema_name, s.sequence_name, s.seqincrement AS increment, s.seqmin AS min_value,
    s.seqmax AS max_value, s.seqcycle AS cycle, s.next_start, s.given, s.upcoming, s.untouched, s.told, s.column_max,
    NOT s.is_set AND abs(s.seqincrement::numeric) > 4611686018427387903 AS too_large,
    s.is_set
      AND CASE WHEN s.upcoming BETWEEN s.seqmin AND s.seqmax THEN s.upcoming WHEN s.seqcycle THEN s.next_start END
        IS NOT DISTINCT FROM
        CASE WHEN s.target BETWEEN s.seqmin AND s.seqmax THEN s.target WHEN s.seqcycle THEN s.next_start END
      AND NOT (s.start_off AND s.seqstart + s.step BETWEEN s.seqmin AND s.seqmax)
      AND NOT (s.cycle_off AND s.next_start + s.step BETWEEN s.seqmin AND s.seqmax AND s.seqmax::numeric - s.seqmin > abs(s.step))
      AS fits,
    s.cycle_off, s.reached,
    CASE WHEN NOT s.seqcycle AND s.upcoming BETWEEN s.seqmin AND s.seqmax
        AND CASE WHEN s.seqincrement > 0 THEN s.reached >= s.upcoming ELSE s.reached <= s.upcoming END
      THEN s.upcoming + s.seqincrement::numeric * div(
        CASE WHEN s.seqincrement > 0 THEN least(s.reached, s.seqmax) ELSE greatest(s.reached, s.seqmin) END - s.upcoming,
        s.seqincrement) END::bigint AS passes
  FROM (
    SELECT c.*, c.next_value + CASE WHEN ha.value_class(c.next_value, abs(c.step)) <> c.wanted THEN c.step ELSE 0 END
        AS target,
      ha.value_class(c.seqstart, abs(c.step)) <> c.wanted AS start_off,
      c.seqcycle AND ha.value_class(c.next_start, abs(c.step)) <> c.wanted AS cycle_off
    FROM (
      SELECT u.sequence, u.schema_name, u.sequence_name, q.seqincrement, q.seqmin, q.seqmax, q.seqcycle, q.seqstart,
        CASE st.role WHEN 'primary' THEN 1 ELSE 0 END AS wanted,
        coalesce(q.seqincrement = r.increment_set, false) AS is_set,
        coalesce(r.increment_before, q.seqincrement)::numeric AS step,
        CASE WHEN q.seqincrement > 0 THEN q.seqmin ELSE q.seqmax END::numeric AS next_start,
        l.last_value - CASE WHEN l.is_called THEN 0 ELSE coalesce(r.increment_before, q.seqincrement)::numeric END AS given,
        l.last_value + CASE WHEN l.is_called THEN q.seqincrement::numeric ELSE 0 END AS upcoming,
        l.last_value + CASE WHEN l.is_called THEN coalesce(r.increment_before, q.seqincrement)::numeric ELSE 0 END
          AS next_value,
        NOT l.is_called AND l.last_value = q.seqstart AS untouched, p.sequence_name IS NOT NULL AS told,
        p.last_value AS reached,
        (SELECT max(CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END)
          FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
          WHERE d.classid = 'pg_class'::regclass AND d.objid = u.sequence AND d.refclassid = 'pg_class'::regclass
            AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')) AS column_max
      FROM ha.state st CROSS JOIN ha.user_sequence u JOIN pg_sequence q ON q.seqrelid = u.sequence
        LEFT JOIN ha.sequence r ON r.sequence = u.sequence
        LEFT JOIN ha.sequence_position p
          ON p.schema_name = u.schema_name AND p.sequence_name = u.sequence_name
        CROSS JOIN LATERAL ha.read_sequence(u.schema_name, u.sequence_name) l
    ) c
  ) s;

-- A row that the applier is just writing is left to the next time: nobody waits for it.
CREATE FUNCTION ha.forget_position(schema_done text, sequence_done text, reached bigint) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
  DELETE FROM ha.sequence_position WHERE ctid IN (
    SELECT p.ctid FROM ha.sequence_position p WHERE p.schema_name = schema_done AND p.sequence_name = sequence_done
      AND p.last_value = reached FOR UPDATE SKIP LOCKED);
END
$body$;

-- Moves one sequence beyond what the peer has told of its own, in its own half of the values. Never backwards, and never
-- one with CYCLE, whose values come again anyway. Where nothing is left the next nextval fails, as the peer's does.
-- True if it was moved. To be called for a sequence that fits.
CREATE FUNCTION ha.advance_sequence(seq oid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  s record;
  locked boolean := false;
BEGIN
  LOOP
    SELECT * INTO s FROM ha.sequence_state u WHERE u.sequence = seq AND u.told;
    IF NOT FOUND THEN
      RETURN false;
    END IF;
    EXIT WHEN locked OR s.passes IS NULL;
    -- Takes the lock that keeps nextval out until the end of the transaction; then everything is read once more.
    EXECUTE format('ALTER SEQUENCE %I.%I INCREMENT BY %s', s.schema_name, s.sequence_name, s.increment);
    locked := true;
  END LOOP;
  -- Not beyond what the peer has taken, or the peer would move in its turn.
  PERFORM setval(seq::regclass, s.passes, true) WHERE s.passes IS NOT NULL;
  PERFORM ha.forget_position(s.schema_name, s.sequence_name, s.reached);
  RETURN s.passes IS NOT NULL;
END
$body$;

-- The same for all that fit, without locks: only while nobody takes values. How many were moved.
CREATE FUNCTION ha.advance_sequences() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  s record;
  moved int := 0;
BEGIN
  FOR s IN SELECT * FROM ha.sequence_state u WHERE u.told AND u.fits LOOP
    IF s.passes IS NOT NULL THEN
      PERFORM setval(s.sequence::regclass, s.passes, true);
      moved := moved + 1;
    END IF;
    PERFORM ha.forget_position(s.schema_name, s.sequence_name, s.reached);
  END LOOP;
  RETURN moved;
END
$body$;

-- A sequence of the same name that is made anew has nothing to do with what was told of the former.
CREATE FUNCTION ha.sequence_dropped() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp AS $body$
BEGIN
  DELETE FROM ha.sequence_position p USING pg_event_trigger_dropped_objects() d
    WHERE d.object_type = 'sequence' AND p.schema_name = d.schema_name AND p.sequence_name = d.object_name;
END
$body$;

REVOKE EXECUTE ON FUNCTION ha.advance_sequence(oid), ha.advance_sequences(), ha.sequence_dropped() FROM PUBLIC;

CREATE EVENT TRIGGER ha_sequence_dropped ON sql_drop EXECUTE FUNCTION ha.sequence_dropped();
ALTER EVENT TRIGGER ha_sequence_dropped ENABLE ALWAYS;
`;
