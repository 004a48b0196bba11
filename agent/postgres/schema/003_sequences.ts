// Schema ha, version 3: odd values of sequences at the primary, even ones at the secondary.
// With an increment of k before, the class of v is that of floor(v / |k|): the increment is doubled, v mod k is kept.
// A value that was given out already never comes again; ALTER SEQUENCE holds off nextval until the end.

export const sequences = `
-- 1 if floor(v / k) is odd, else 0. Exact for every bigint; k > 0.
CREATE FUNCTION ha.parity(v numeric, k numeric) RETURNS int
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $body$
  SELECT abs(mod(div(v - mod(mod(v, k) + k, k), k), 2))::int
$body$;

-- Makes one sequence fit this node's role. True if something was changed. Call it with wait = true unless this very
-- transaction has made or altered the sequence (and so holds its lock).
CREATE FUNCTION ha.ensure_sequence(seq oid, wait boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ha, pg_temp SET session_replication_role = replica
AS $body$
DECLARE
  wanted int;
  name text;
  s record;
  locked boolean := NOT wait;
  k numeric; step numeric; low numeric; high numeric; first numeric;
  inc_before bigint; start_before bigint; min_before bigint; max_before bigint;
  upcoming numeric; target numeric;
BEGIN
  SELECT CASE role WHEN 'primary' THEN 1 ELSE 0 END INTO wanted FROM ha.state;
  IF wanted IS NULL THEN
    RETURN false;
  END IF;
  LOOP
    SELECT format('%I.%I', n.nspname, c.relname) AS name, q.seqincrement, q.seqstart, q.seqmin, q.seqmax, q.seqcycle,
        r.sequence AS known, r.increment_before, r.increment_set, r.start_before, r.start_set, r.min_before, r.min_set,
        r.max_before, r.max_set, 0::bigint AS last_value, false AS is_called
      INTO s
      FROM pg_sequence q JOIN pg_class c ON c.oid = q.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN ha.sequence r ON r.sequence = q.seqrelid
      WHERE q.seqrelid = seq AND c.relpersistence <> 't';
    IF NOT FOUND OR abs(s.seqincrement::numeric) > 4611686018427387903 THEN
      RETURN false;
    END IF;
    name := s.name;
    EXECUTE 'SELECT last_value, is_called FROM ' || name INTO s.last_value, s.is_called;

    -- What somebody has altered since counts as its value before.
    inc_before := CASE WHEN s.seqincrement = s.increment_set THEN s.increment_before ELSE s.seqincrement END;
    IF abs(inc_before::numeric) > 4611686018427387903 THEN
      RETURN false;
    END IF;
    start_before := CASE WHEN s.seqstart = s.start_set THEN s.start_before ELSE s.seqstart END;
    min_before := CASE WHEN s.seqmin = s.min_set THEN s.min_before ELSE s.seqmin END;
    max_before := CASE WHEN s.seqmax = s.max_set THEN s.max_before ELSE s.seqmax END;
    step := inc_before; k := abs(step); low := min_before; high := max_before;

    -- A cycle begins again at its end value, which therefore has to be of the right class (a cycle too short for that,
    -- as PostgreSQL wants MINVALUE < MAXVALUE, stays as it is).
    IF s.seqcycle AND step > 0 AND ha.parity(low, k) <> wanted AND low + k < high THEN
      low := low + k;
    ELSIF s.seqcycle AND step < 0 AND ha.parity(high, k) <> wanted AND high - k > low THEN
      high := high - k;
    END IF;
    -- So has the value that TRUNCATE ... RESTART IDENTITY goes back to.
    first := start_before;
    IF ha.parity(first, k) <> wanted THEN
      first := first + step;
    END IF;
    IF first NOT BETWEEN low AND high THEN
      first := CASE WHEN start_before BETWEEN low AND high THEN start_before WHEN step > 0 THEN low ELSE high END;
    END IF;
    -- The next value of the right class beyond those given out; out of range means exhausted, or round again.
    target := CASE WHEN s.is_called THEN s.last_value + step ELSE s.last_value END;
    IF ha.parity(target, k) <> wanted THEN
      target := target + step;
    END IF;
    IF target NOT BETWEEN low AND high THEN
      target := CASE WHEN NOT s.seqcycle THEN NULL WHEN step > 0 THEN low ELSE high END;
    END IF;
    upcoming := CASE WHEN s.is_called THEN s.last_value + s.seqincrement::numeric ELSE s.last_value END;
    IF upcoming NOT BETWEEN low AND high THEN
      upcoming := CASE WHEN NOT s.seqcycle THEN NULL WHEN step > 0 THEN low ELSE high END;
    END IF;

    IF s.known IS NOT NULL AND s.seqincrement = step * 2 AND s.seqmin = low AND s.seqmax = high AND s.seqstart = first
      AND upcoming IS NOT DISTINCT FROM target
    THEN
      RETURN false;
    END IF;
    EXIT WHEN locked;
    -- Takes the lock that keeps nextval out until the end of the transaction; then everything is read once more.
    EXECUTE format('ALTER SEQUENCE %s INCREMENT BY %s', name, s.seqincrement);
    locked := true;
  END LOOP;

  INSERT INTO ha.sequence AS r (sequence, increment_before, increment_set, start_before, start_set,
      min_before, min_set, max_before, max_set)
    VALUES (seq, inc_before, step * 2, start_before, first, min_before, low, max_before, high)
    ON CONFLICT (sequence) DO UPDATE SET increment_before = excluded.increment_before,
      increment_set = excluded.increment_set, start_before = excluded.start_before, start_set = excluded.start_set,
      min_before = excluded.min_before, min_set = excluded.min_set, max_before = excluded.max_before,
      max_set = excluded.max_set, updated_at = now();
  IF target IS NULL THEN
    -- Exhausted for this node: the next nextval has to fail, so the last value counts as given out.
    PERFORM setval(seq::regclass, s.last_value, true);
  END IF;
  EXECUTE format('ALTER SEQUENCE %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s', name, step * 2, low, high, first)
    || coalesce(' RESTART WITH ' || target, '');
  RETURN true;
END
$body$;

-- The sequences that this is about; of schema ha only that of the conflict log, which both nodes may write.
CREATE VIEW ha.user_sequence AS
  SELECT c.oid AS sequence, n.nspname AS schema_name, c.relname AS sequence_name
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'S' AND c.relpersistence <> 't'
    AND (n.nspname <> 'ha' OR c.relname = 'conflict_id_seq');

REVOKE EXECUTE ON FUNCTION ha.ensure_sequence(oid, boolean) FROM PUBLIC;
`;
