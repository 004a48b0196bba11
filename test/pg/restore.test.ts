// The conflict log on a real server: listed, noted as reviewed, and losing versions put back as an application's write;
// every refusal changes nothing and tells no value.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { AgentError } from "../../agent/errors.ts";
import type { Sql } from "../../agent/postgres/connect.ts";
import { migrate } from "../../agent/postgres/migrations.ts";
import { ensurePolicies, ensureTables } from "../../agent/postgres/objects.ts";
import type { ConflictEntry, Image } from "../../agent/review/entry.ts";
import { markReviewed, readConflict, readConflicts } from "../../agent/review/log.ts";
import { restore, type RestoreDeps, type RestoreOptions } from "../../agent/review/restore.ts";
import { writing } from "../../agent/review/writing.ts";
import { closeGuard, ensureNode, openGuard } from "../../agent/role/guard.ts";
import { type TestServer, versions, withServer } from "../helpers/servers.ts";

const schema = `
  CREATE ROLE owner;
  CREATE TABLE doc (id int PRIMARY KEY, v text, n numeric(10,2), at timestamptz, double int GENERATED ALWAYS AS (1) STORED);
  CREATE TABLE child (id int PRIMARY KEY, doc int CONSTRAINT of_doc REFERENCES doc);
  CREATE TABLE account (id int PRIMARY KEY, login text CONSTRAINT one_login UNIQUE, secret text);
  CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
  CREATE TABLE audit (id int PRIMARY KEY, what text);
  CREATE TABLE loose (v text);
  CREATE TABLE kept_out (id int PRIMARY KEY);
  CREATE TABLE seen (name text, role text, label text);
  ALTER TABLE doc OWNER TO owner; GRANT SELECT, INSERT ON seen TO owner;
  CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO seen VALUES (tg_op, current_setting(''session_replication_role''), current_user); RETURN new; END';
  CREATE TRIGGER note BEFORE INSERT OR UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION note();
  CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
  CREATE TRIGGER keep_out BEFORE INSERT ON kept_out FOR EACH ROW EXECUTE FUNCTION keep_out()`;

/** What every entry has that does not say otherwise. */
const common = {
  kind: "update_origin_differs",
  table_name: "doc",
  row_key: { id: "1" } as Image,
  primary_row: null as Image | null,
  secondary_row: null as Image | null,
  winner: "primary",
  quarantined: false,
};

class Bench {
  readonly sql: Sql;
  readonly deps: RestoreDeps;

  constructor(private readonly server: TestServer) {
    this.sql = server.pool();
    const secretOf = (label: string) => label === "public.account" ? ["secret"] : [];
    this.deps = { sql: this.sql, target: server.target(), peer: "b.example.com:8282", secretOf };
  }

  async prepare(): Promise<void> {
    await this.sql.unsafe(schema);
    await migrate(this.sql);
    await ensureNode(this.sql, { node: "a", role: "primary" });
    await ensurePolicies(this.sql, [{ schema: "public", table: "audit", rows: "append_only" }]);
    await ensureTables(this.sql);
    await openGuard(this.sql, { dbname: "postgres", epoch: 1, state: "serving" });
  }

  get app(): Sql {
    return this.server.client();
  }

  async log(entry: Partial<typeof common> & { at?: string }): Promise<number> {
    const { at, ...all } = { ...common, at: null, ...entry };
    const [{ id }] = await this.sql.unsafe(
      `INSERT INTO ha.conflict (at, kind, schema_name, table_name, row_key, primary_row, secondary_row, winner,
          quarantined, policy, why, logged_by)
        VALUES (coalesce($1::text::timestamptz, clock_timestamp()), $2, 'public', $3, $4::jsonb, nullif($5::jsonb, 'null'),
          nullif($6::jsonb, 'null'), $7, $8::boolean, 'last_update_wins', 'because', 'primary') RETURNING id::int`,
      [at, all.kind, all.table_name, all.row_key, all.primary_row, all.secondary_row, all.winner, all.quarantined],
    );
    return id;
  }

  restore(id: number, options: Partial<RestoreOptions> = {}) {
    return restore(this.deps, id, { side: null, yes: false, force: false, again: false, ...options });
  }

  /** That it is refused in these words, and that nothing has changed. */
  async refused(id: number, message: RegExp, options: Partial<RestoreOptions> = {}, exitCode = 3): Promise<AgentError> {
    const before = await this.everything();
    let found: AgentError | undefined;
    await assert.rejects(this.restore(id, options), (error: AgentError) => {
      found = error;
      assert.match(error.message, /^Cannot (restore conflict|find conflict)/);
      assert.match(error.message, message);
      assert.equal(error.exitCode, exitCode, error.message);
      assert.ok(error.remedy.length > 0);
      assert.doesNotMatch(error.message + error.remedy, /hidden|theirs|ours/, "no value is told");
      return true;
    });
    assert.deepEqual(await this.everything(), before, "nothing has changed");
    return found!;
  }

  private async everything() {
    const tables = ["doc", "child", "account", "numbered", "audit", "loose", "kept_out", "seen", "ha.conflict"];
    const rows = [];
    for (const table of tables) {
      const exists = await this.sql.unsafe("SELECT to_regclass($1) IS NOT NULL AS yes", [table]);
      if (!exists[0].yes) continue;
      rows.push([...await this.sql.unsafe(`SELECT to_jsonb(t)::text AS row FROM ${table} t ORDER BY 1`)]);
    }
    return rows;
  }

  async entry(id: number): Promise<ConflictEntry> {
    return await readConflict(this.sql, id);
  }
}

const image = (id: string, v: string): Image => ({ id, v, n: "1.50", at: "2030-01-01 00:00:00+00" });

for (const version of versions) {
  test(`PostgreSQL ${version}: losing versions come back as an application's write`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const bench = new Bench(server);
      await bench.prepare();
      const { sql, app } = bench;
      await app`INSERT INTO doc (id, v, n, at) SELECT n, 'ours', 1.5, '2030-01-01 00:00Z' FROM generate_series(1, 4) n`;

      const updated = await bench.log({ primary_row: image("1", "ours"), secondary_row: image("1", "theirs") });
      assert.equal((await bench.restore(updated)).did, "updated");
      const [one] = await sql`SELECT v, n::text, double FROM doc WHERE id = 1`;
      assert.deepEqual({ ...one }, { v: "theirs", n: "1.50", double: 1 });
      const { restored_at, reviewed_at } = await bench.entry(updated);
      assert.ok(restored_at && reviewed_at === restored_at);
      await bench.refused(updated, /was restored at/);
      await bench.refused(updated, /is as that version has it already/, { again: true });

      const inserted = await bench.log({
        row_key: { id: "9" },
        secondary_row: image("9", "theirs"),
        quarantined: true,
      });
      assert.equal((await bench.restore(inserted)).did, "inserted");
      const seen = await sql`SELECT DISTINCT role, label FROM seen WHERE name <> 'x' ORDER BY 1, 2`;
      assert.deepEqual(seen.map((row) => ({ ...row })), [
        { role: "origin", label: "owner" },
        { role: "origin", label: "postgres" },
      ]);

      const removed = await bench.log({ row_key: { id: "2" }, primary_row: image("2", "ours") });
      const asked = await bench.refused(removed, /would be deleted/, {}, 2);
      assert.match(asked.remedy, /--yes/);
      assert.equal((await bench.restore(removed, { yes: true })).did, "deleted");

      const moved = await bench.log({
        row_key: { id: "3" },
        primary_row: image("3", "ours"),
        secondary_row: image("33", "theirs"),
      });
      await bench.restore(moved);
      assert.deepEqual((await sql`SELECT id FROM doc ORDER BY id`).map((row) => row.id), [1, 4, 9, 33]);

      // The xid of the write has no replication origin: it is sent to the peer as this node's own.
      const [{ own }] =
        await sql`SELECT (pg_xact_commit_timestamp_origin(xmin)).roident = 0 AS own FROM doc WHERE id = 33`;
      assert.equal(own, true);

      const identity = await bench.log({
        table_name: "numbered",
        row_key: { id: "40" },
        secondary_row: { id: "40", v: "theirs" },
        quarantined: true,
      });
      await bench.restore(identity);
      assert.equal((await sql`SELECT v FROM numbered WHERE id = 40`)[0].v, "theirs");

      const loose = await bench.log({ table_name: "loose", row_key: { v: "x" }, secondary_row: { v: "x" } });
      await bench.restore(loose);
      assert.equal((await sql`SELECT v FROM loose`)[0].v, "x");

      const merged = await bench.log({
        row_key: { id: "4" },
        primary_row: image("4", "former"),
        secondary_row: image("4", "theirs"),
        winner: "both",
      });
      const which = await bench.refused(merged, /neither version has lost/, {}, 2);
      assert.match(which.remedy, /--side/);
      await bench.restore(merged, { side: "secondary" });
      assert.equal((await sql`SELECT v FROM doc WHERE id = 4`)[0].v, "theirs");
    });
  });

  test(`PostgreSQL ${version}: every refusal of a restore changes nothing`, { timeout: 60_000 }, async () => {
    await withServer(version, async (server) => {
      const bench = new Bench(server);
      await bench.prepare();
      const { sql, app } = bench;
      await app`INSERT INTO doc (id, v, n, at) SELECT n, 'now', 1.5, '2030-01-01 00:00Z' FROM generate_series(1, 9) n`;
      await app`INSERT INTO account VALUES (1, 'ours', 'hidden'); INSERT INTO child VALUES (1, 8)`.simple();
      await app`INSERT INTO audit VALUES (1, 'ours')`;

      await bench.refused(999, /there is no such entry/);

      const changed = await bench.log({ primary_row: image("1", "ours"), secondary_row: image("1", "theirs") });
      assert.match((await bench.refused(changed, /has been changed since, in v$/)).remedy, /--force/);
      await bench.restore(changed, { force: true });
      assert.equal((await sql`SELECT v FROM doc WHERE id = 1`)[0].v, "theirs");
      const gone = await bench.log({
        row_key: { id: "50" },
        primary_row: image("50", "ours"),
        secondary_row: image("50", "theirs"),
      });
      await bench.refused(gone, /has been deleted since/);
      const back = await bench.log({ row_key: { id: "2" }, secondary_row: image("2", "theirs") });
      await bench.refused(back, /a row of its key again/);
      const former = await bench.log({
        row_key: { id: "2" },
        primary_row: image("3", "now"),
        secondary_row: image("2", "theirs"),
        at: "2000-01-01",
      });
      await bench.refused(former, /has been written since/);

      const orphan = await bench.log({
        table_name: "child",
        row_key: { id: "2" },
        secondary_row: { id: "2", doc: "77" },
        quarantined: true,
      });
      await bench.refused(orphan, /the row of public\.doc that it refers to is not there \(of_doc of public\.child\)/);
      const parent = await bench.log({ row_key: { id: "8" }, primary_row: image("8", "now") });
      await bench.refused(parent, /rows of public\.child refer to its row \(of_doc\)/, { yes: true });
      const twin = await bench.log({
        table_name: "account",
        row_key: { id: "2" },
        secondary_row: { id: "2", login: "ours", secret: "hidden" },
        quarantined: true,
      });
      await bench.refused(twin, /another row of public\.account has its value of the unique key one_login/);
      const added = await bench.log({
        table_name: "audit",
        primary_row: { id: "1", what: "ours" },
        secondary_row: { id: "1", what: "theirs" },
        quarantined: true,
      });
      await bench.refused(added, /Cannot change public\.audit: its rows are only ever added/);
      const silent = await bench.log({ table_name: "kept_out", secondary_row: { id: "1" }, quarantined: true });
      await bench.refused(silent, /0 rows were written: a trigger/);

      const holder = await server.client({ max: 1 }).reserve();
      await holder`BEGIN`;
      await holder`UPDATE doc SET v = v WHERE id = 3`;
      const locked = await bench.log({
        row_key: { id: "3" },
        primary_row: image("3", "now"),
        secondary_row: image("3", "theirs"),
      });
      await bench.refused(locked, /is locked by another session/);
      await holder`ROLLBACK`;
      holder.release();

      await sql.unsafe(`ALTER TABLE doc ALTER v TYPE varchar(3) USING left(v, 3), ALTER n TYPE numeric(12, 4)`);
      const long = await bench.log({
        row_key: { id: "4" },
        primary_row: image("4", "now"),
        secondary_row: image("4", "theirs"),
      });
      await bench.refused(long, /does not fit the type of column v any more/);
      const fits = { ...image("4", "abc"), at: "2030-01-01 03:00:00+03" };
      const short = await bench.log({ row_key: { id: "4" }, primary_row: { id: "4", v: "now" }, secondary_row: fits });
      assert.equal((await bench.restore(short)).did, "updated", "1.50 is 1.5000, and an instant has several forms");
      await sql.unsafe(`ALTER TABLE doc ALTER v TYPE int USING 1`);
      await bench.refused(long, /does not fit the type of column v any more/);
      await sql.unsafe(`ALTER TABLE doc DROP v`);
      await bench.refused(long, /its table has no column v any more/);

      const cut = await bench.log({
        table_name: "account",
        row_key: { id: "3" },
        secondary_row: { id: "3", login: "x" },
        quarantined: true,
      });
      await bench.refused(cut, /came without its large value in column secret/);
      const whole = {
        table_name: "account",
        row_key: { id: "4" },
        secondary_row: { id: "4", login: "y", secret: "s" },
      };
      const fresh = await bench.log({ ...whole, quarantined: true });
      await sql.unsafe("DELETE FROM account; ALTER TABLE account ADD fresh text NOT NULL");
      await bench.refused(fresh, /column fresh is new, and has no default/);
      await sql.unsafe("ALTER TABLE account ALTER fresh SET DEFAULT 'd'");
      await bench.restore(fresh);
      await sql.unsafe("ALTER TABLE account DROP CONSTRAINT account_pkey, ADD PRIMARY KEY (fresh)");
      await bench.refused(fresh, /its table has another key now/, { again: true });
      await sql.unsafe("DROP TABLE loose");
      await bench.refused(
        await bench.log({ table_name: "loose", secondary_row: { v: "x" } }),
        /there is no table public\.loose/,
      );

      // A fence does not wait for what has only begun, and ends it.
      const began = Promise.withResolvers<void>();
      const late = writing(bench.deps, "wait", async (tx) => {
        await markReviewed(tx, [orphan]);
        began.resolve();
        await tx`SELECT pg_sleep(60)`;
      });
      const ended = assert.rejects(late, (error: AgentError) => error.exitCode === 4);
      await began.promise;
      await closeGuard(sql, { dbname: "postgres", epoch: 2, state: "standby" });
      await ended;
      assert.equal((await bench.entry(orphan)).reviewed_at, null);
      assert.match((await bench.refused(fresh, /this node takes no writes/)).remedy, /b\.example\.com:8282/);
      await assert.rejects(writing(bench.deps, "note", (tx) => markReviewed(tx, [fresh])), /takes no writes/);
      assert.doesNotMatch(readFileSync(server.cluster.logFile, "utf8"), /theirs|hidden|Key \(/, "no value is logged");
    });
  });
}

test("the log is listed, newest first, and noted as reviewed", { timeout: 60_000 }, async () => {
  await withServer(18, async (server) => {
    const bench = new Bench(server);
    await bench.prepare();
    const { sql, deps } = bench;
    const ids: number[] = [];
    for (const day of ["01", "03", "02"]) {
      ids.push(
        await bench.log({ at: `2030-01-${day} 00:00:00.123456+00`, table_name: day === "02" ? "child" : "doc" }),
      );
    }
    const all = { unreviewed: false, table: null, kind: null, limit: 10 };
    const list = async (options: Partial<typeof all> | { table: string } | { kind: string }) =>
      (await readConflicts(sql, { ...all, ...options })).map((entry) => entry.id);
    assert.deepEqual(await list({}), [ids[1], ids[2], ids[0]]);
    assert.deepEqual(await list({ limit: 1 }), [ids[1]]);
    assert.deepEqual(await list({ table: "public.doc" }), [ids[1], ids[0]]);
    assert.deepEqual(await list({ table: "child" }), [ids[2]]);
    assert.deepEqual(await list({ kind: "cannot_apply" }), []);
    assert.equal((await bench.entry(ids[0])).at, "2030-01-01T00:00:00.123456Z");
    const review = (...which: number[]) => writing(deps, "note", (tx) => markReviewed(tx, which));
    assert.equal(await review(ids[0], ids[1], ids[0]), 2);
    assert.equal(await review(ids[0]), 0);
    await assert.rejects(review(ids[2], 999), /Cannot find conflict 999/);
    assert.deepEqual(await list({ unreviewed: true }), [ids[2]]);
  });
});
