// A table of every kind, with columns of every type and the values that are hard to carry. DDL and rows only;
// what is done to them afterwards is in every_statement.ts. Works on PostgreSQL 15-18.
import type { Sql } from "../../agent/postgres/connect.ts";

/** To be run as superuser before `everyTable`: types of extensions. */
export const everyExtension = `
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
`;

const types = `
CREATE SCHEMA "Types & more";
CREATE TYPE "Types & more"."Mood" AS ENUM ('sad', 'ok', 'very happy', 'with "quote"', 'with,comma');
CREATE TYPE "Types & more".point3 AS (x float8, y numeric, label text);
CREATE TYPE "Types & more".segment AS (a "Types & more".point3, b "Types & more".point3, moods "Types & more"."Mood"[]);
CREATE TYPE "Types & more".float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN "Types & more".positive AS int CHECK (VALUE > 0);
CREATE DOMAIN "Types & more".mood_domain AS "Types & more"."Mood" DEFAULT 'ok';
CREATE DOMAIN "Types & more".tags AS text[] CHECK (cardinality(VALUE) < 10);
CREATE DOMAIN "Types & more".nested AS "Types & more".positive CHECK (VALUE < 1000000);
`;

/** name, type, and values: each becomes a row (the last value is repeated); NULLs are added to each. */
const columns: [string, string, string[]][] = [
  ["c_bool", "boolean", ["true", "false"]],
  ["c_int2", "smallint", ["-32768", "32767"]],
  ["c_int4", "integer", ["-2147483648", "2147483647"]],
  ["c_int8", "bigint", ["'-9223372036854775808'", "'9223372036854775807'"]],
  ["c_numeric", "numeric", ["'NaN'", "'Infinity'", "'-Infinity'", "0.1", "-1e-300", "1e300", "1.500"]],
  ["c_numeric_scale", "numeric(20, 4)", ["12345.6789", "-0.0001"]],
  ["c_float4", "real", ["'NaN'", "'-Infinity'", "1.1754944e-38", "3.4028235e38"]],
  ["c_float8", "double precision", ["'NaN'", "'Infinity'", "5e-324", "-0.0", "0.1"]],
  ["c_money", "money", ["'12.34'::money", "'-92233720368547758.08'::money"]],
  ["c_text", "text", ["''", "'plain'", `E'tab\\t nl\\n cr\\r back\\\\ quote '' "'`, "'\\N'", "'žluťoučký 馬 🐎'"]],
  ["c_varchar", "varchar(20)", ["'twenty characters ok'", "''"]],
  ["c_char", "char(8)", ["'pad'", "''"]],
  ["c_char1", `"char"`, ["'x'", "''"]],
  ["c_name", "name", ["'a name'"]],
  ["c_bytea", "bytea", ["'\\x'", "'\\x00ff5c0a0d'", "decode(repeat('00ff', 500), 'hex')"]],
  ["c_bit", "bit(5)", ["B'10101'"]],
  ["c_varbit", "bit varying", ["B''", "B'101'", "repeat('10', 500)::varbit"]],
  ["c_date", "date", ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"]],
  ["c_time", "time", ["'00:00'", "'24:00:00'", "'23:59:59.999999'"]],
  ["c_timetz", "timetz", ["'12:00:00.5-15:59'", "'00:00+14'"]],
  ["c_timestamp", "timestamp", [
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 00:00:00 BC'",
    "'294276-12-31 23:59:59.999999'",
  ]],
  ["c_timestamptz", "timestamptz", ["'infinity'", "'-infinity'", "'2026-03-29 01:30:00.123456+01'"]],
  ["c_interval", "interval", ["'-1 year 2 mons -3 days 04:05:06.789'", "'178000000 years'"]],
  ["c_uuid", "uuid", ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]],
  ["c_json", "json", [`'{"b" : 1,  "a": [1, 2 , null], "b":2}'`, "'null'"]],
  ["c_jsonb", "jsonb", [`'{"b": 1, "a": {"deep": [1.0, "\\u00e9", true, null]}}'`, "'[]'", `'"text"'`]],
  ["c_jsonpath", "jsonpath", ["'$.a[*] ? (@ > 1)'"]],
  ["c_xml", "xml", ["'<a b=\"1\">text &amp; more<c/></a>'"]],
  ["c_inet", "inet", ["'192.0.2.1/24'", "'2001:db8::1'"]],
  ["c_cidr", "cidr", ["'192.0.2.0/24'", "'2001:db8::/32'"]],
  ["c_macaddr", "macaddr", ["'08:00:2b:01:02:03'"]],
  ["c_macaddr8", "macaddr8", ["'08:00:2b:01:02:03:04:05'"]],
  ["c_point", "point", ["'(1.5,-2.5)'", "'(NaN,Infinity)'"]],
  ["c_line", "line", ["'{1,-1,0}'"]],
  ["c_lseg", "lseg", ["'[(0,0),(1,1)]'"]],
  ["c_box", "box", ["'((0,0),(1,1))'"]],
  ["c_path", "path", ["'((0,0),(1,1),(2,0))'", "'[(0,0),(1,1)]'"]],
  ["c_polygon", "polygon", ["'((0,0),(1,1),(2,0))'"]],
  ["c_circle", "circle", ["'<(0,0),5>'"]],
  ["c_tsvector", "tsvector", ["to_tsvector('simple', 'the quick brown fox')", "'a:1A b:2B,3'"]],
  ["c_tsquery", "tsquery", ["'fat & (rat | !cat) <-> dog:A*'"]],
  ["c_lsn", "pg_lsn", ["'16/B374D848'"]],
  ["c_xid8", "xid8", ["'18446744073709551615'"]],
  ["c_snapshot", "pg_snapshot", ["'10:20:10,14,15'"]],
  ["c_regtype", "regtype", ["'integer'"]],
  ["c_oid", "oid", ["4294967295"]],
  ["c_int_array", "int[]", ["'{}'", "'{1,NULL,3}'", "'[2:3]={5,6}'", "'{{1,2},{3,4}}'"]],
  ["c_text_array", "text[]", [`'{"",NULL,"NULL","a,b","q\\"uote","back\\\\\\\\slash"}'`]],
  ["c_timestamptz_array", "timestamptz[]", ["'{infinity,2026-01-01 00:00:00+00}'"]],
  ["c_bytea_array", "bytea[]", [`ARRAY['\\x00'::bytea, NULL, '\\xff']`]],
  ["c_int4range", "int4range", ["'empty'", "'[1,10)'", "'(,)'"]],
  ["c_numrange", "numrange", ["'(1.5,NaN]'", "'[,2.50)'"]],
  ["c_tstzrange", "tstzrange", ["'[2026-01-01 00:00+00,infinity)'"]],
  ["c_daterange", "daterange", ["'[2026-01-01,2026-02-01]'"]],
  ["c_int8multirange", "int8multirange", ["'{[1,3),[5,9)}'", "'{}'"]],
  ["c_nummultirange", "nummultirange", ["'{(,1.5],[2,)}'"]],
  ["c_range_array", "int4range[]", [`'{"[1,2)",empty}'`]],
  ["c_enum", `"Types & more"."Mood"`, ["'sad'", `'with "quote"'`]],
  ["c_enum_array", `"Types & more"."Mood"[]`, [`ARRAY['ok', 'with,comma', NULL]::"Types & more"."Mood"[]`]],
  ["c_composite", `"Types & more".point3`, ["ROW(1.5, 'NaN', 'a \"quoted\", (label)')", "ROW(NULL, NULL, NULL)"]],
  ["c_composite_array", `"Types & more".point3[]`, [
    `ARRAY[ROW(1, 2.50, NULL), ROW('NaN', 0, '')]::"Types & more".point3[]`,
  ]],
  ["c_nested", `"Types & more".segment`, [
    `ROW(ROW(1, 2, 'a'), NULL, '{ok,"very happy"}'::"Types & more"."Mood"[])::"Types & more".segment`,
  ]],
  ["c_own_range", `"Types & more".float_range`, ["'[1.5,2.5)'"]],
  ["c_domain", `"Types & more".positive`, ["42"]],
  ["c_domain_enum", `"Types & more".mood_domain`, ["'very happy'"]],
  ["c_domain_array", `"Types & more".tags`, ["'{a,b}'"]],
  ["c_domain_nested", `"Types & more".nested`, ["99"]],
  ["c_domain_elements", `"Types & more".positive[]`, ["'{1,2}'"]],
  ["c_hstore", "hstore", [`'a=>1, b=>NULL, "c d"=>"e\\"f"'`, "''"]],
  ["c_hstore_array", "hstore[]", [`ARRAY['a=>1'::hstore, NULL]`]],
  ["c_citext", "citext", ["'MiXeD'"]],
  ["c_ltree", "ltree", ["'Top.Science.Astronomy'"]],
  ["c_lquery", "lquery", ["'Top.*{0,2}.sport*@|tennis'"]],
];

const rowCount = Math.max(...columns.map(([, , values]) => values.length));

/** Values of one row: the nth of each column, the last one where a column has fewer. */
function valuesOf(row: number): string {
  return columns.map(([, type, values]) => `(${values[Math.min(row, values.length - 1)]})::${type}`).join(", ");
}

const columnNames = columns.map(([name]) => name).join(", ");
const everyColumn = columns.map(([name, type]) => `${name} ${type}`).join(",\n  ");

/** INSERT of one row of values, and of one of NULLs. */
export function insertEveryType(table: string): string {
  const rows = Array.from(
    { length: rowCount },
    (_, row) => `INSERT INTO ${table} (${columnNames}) VALUES (${valuesOf(row)});`,
  );
  return [...rows, `INSERT INTO ${table} DEFAULT VALUES;`].join("\n");
}

/** UPDATE that sets every column to the values of another row, one column at a time and all at once. */
export function updateEveryType(table: string): string {
  const all = columns.map(([name, type, values]) => `${name} = (${values.at(-1)})::${type}`).join(", ");
  const single = columns.map(([name, type, values]) =>
    `UPDATE ${table} SET ${name} = (${values[0]})::${type} WHERE id = 2;`
  );
  return [
    `UPDATE ${table} SET ${all} WHERE id = 1;`,
    ...single,
    `UPDATE ${table} SET ${columns.map(([name]) => `${name} = NULL`).join(", ")} WHERE id = 3;`,
  ].join("\n");
}

const tables = `
SET search_path = public;
CREATE TABLE "Types & more"."Every Type" (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, ${everyColumn});
CREATE TABLE "Types & more".every_type_full (id int GENERATED BY DEFAULT AS IDENTITY, ${everyColumn});
ALTER TABLE "Types & more".every_type_full REPLICA IDENTITY FULL;

CREATE TABLE generated (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b text,
  sum_stored int GENERATED ALWAYS AS (a * 2) STORED, upper_stored text GENERATED ALWAYS AS (upper(b)) STORED
);
CREATE TABLE only_key (a int, b text, PRIMARY KEY (a, b));
CREATE TABLE no_key (a int, b text, c numeric);
CREATE TABLE full_identity (id int PRIMARY KEY, v text, w int);
ALTER TABLE full_identity REPLICA IDENTITY FULL;
CREATE TABLE using_index (id int PRIMARY KEY, code text NOT NULL, v text);
CREATE UNIQUE INDEX using_index_code ON using_index (code);
ALTER TABLE using_index REPLICA IDENTITY USING INDEX using_index_code;
CREATE TABLE key_last (v text, w jsonb, k2 uuid, k1 int, PRIMARY KEY (k1, k2));
CREATE TABLE big (id int PRIMARY KEY, n int, plain text, external text, data bytea);
ALTER TABLE big ALTER external SET STORAGE EXTERNAL;
CREATE TABLE dropped_column (id int PRIMARY KEY, gone text, v text);
INSERT INTO dropped_column VALUES (1, 'gone', 'kept');
ALTER TABLE dropped_column DROP gone;
ALTER TABLE dropped_column ADD added int DEFAULT 7;
CREATE TABLE defaults (id serial PRIMARY KEY, at timestamptz DEFAULT now(), r float8 DEFAULT random(), v text DEFAULT 'd');
CREATE TABLE empty_row ();

CREATE TABLE by_list (region text, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE by_list_eu PARTITION OF by_list FOR VALUES IN ('eu', 'uk');
CREATE TABLE by_list_us PARTITION OF by_list FOR VALUES IN ('us');
CREATE TABLE by_list_rest PARTITION OF by_list DEFAULT;
CREATE TABLE by_range (day date NOT NULL, id int NOT NULL, v text) PARTITION BY RANGE (day);
CREATE TABLE by_range_2025 PARTITION OF by_range FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE by_range_2026 PARTITION OF by_range FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (id);
CREATE TABLE by_range_2026_0 PARTITION OF by_range_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_range_2026_1 PARTITION OF by_range_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1);

CREATE SCHEMA "Quoted ""Schema"";--";
CREATE TABLE "Quoted ""Schema"";--"."Table ""x""; DROP" ("Key ""k""" int PRIMARY KEY, "select" text, "Ünï çödé" text, "a.b" int);
CREATE SCHEMA other;
CREATE TABLE other.no_key (a int, b text, c numeric);

CREATE TABLE tree (id int PRIMARY KEY, parent_id int REFERENCES tree (id), name text);
CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent (id) ON UPDATE CASCADE ON DELETE CASCADE, v text);
CREATE TABLE hen (id int PRIMARY KEY, egg_id int);
CREATE TABLE egg (id int PRIMARY KEY, hen_id int REFERENCES hen (id) DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD FOREIGN KEY (egg_id) REFERENCES egg (id) DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE place (id int PRIMARY KEY, pos int UNIQUE DEFERRABLE INITIALLY IMMEDIATE);
CREATE TABLE booking (id int PRIMARY KEY, room int, during int4range, EXCLUDE USING gist (during WITH &&));
CREATE TABLE upserted (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
CREATE TABLE moved (id int PRIMARY KEY, v text);
CREATE TABLE trigger_log (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, what text);
CREATE TABLE triggered (id int PRIMARY KEY, v text, touched int DEFAULT 0);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.trigger_log (what) VALUES (TG_OP || ' ' || NEW.id);
  NEW.touched := NEW.touched + 1;
  RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE truncated (id int PRIMARY KEY);
CREATE TABLE truncated_child (id int PRIMARY KEY, truncated_id int REFERENCES truncated (id));
CREATE TABLE truncated_alone (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text);
`;

/** Virtual generated columns are new in PostgreSQL 18. */
const virtualColumn = `
CREATE TABLE generated_virtual (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a + 1) VIRTUAL);
INSERT INTO generated_virtual (id, a) VALUES (1, 1), (2, 2);
`;

const firstRows = `
INSERT INTO no_key SELECT n % 3, 'dup', 1.50 FROM generate_series(1, 9) n;
INSERT INTO tree SELECT n, nullif(n / 2, 0), 'node ' || n FROM generate_series(1, 31) n;
INSERT INTO parent SELECT n, 'code ' || n FROM generate_series(1, 10) n;
INSERT INTO child SELECT n, 1 + n % 10, 'child ' || n FROM generate_series(1, 40) n;
INSERT INTO place SELECT n, n FROM generate_series(1, 5) n;
INSERT INTO truncated SELECT generate_series(1, 5);
INSERT INTO truncated_child SELECT n, n FROM generate_series(1, 5) n;
INSERT INTO truncated_alone (v) SELECT 'v' FROM generate_series(1, 5) n;
INSERT INTO big SELECT n, n, (SELECT string_agg(md5((n * i)::text), '') FROM generate_series(1, 3000) i),
  repeat('external', 5000), decode(repeat('00ff', 20000), 'hex') FROM generate_series(1, 4) n;
`;

/** Makes all tables, owned by whoever `sql` is, with first rows in them. `everyExtension` must be there. */
export async function makeEveryType(sql: Sql): Promise<void> {
  const [{ version }] = await sql<{ version: number }[]>`SELECT current_setting('server_version_num')::int AS version`;
  await sql.unsafe(types + tables + (version >= 180000 ? virtualColumn : "") + firstRows).simple();
  await sql.unsafe(insertEveryType(`"Types & more"."Every Type"`)).simple();
  await sql.unsafe(insertEveryType(`"Types & more".every_type_full`)).simple();
}
