// A copy on a machine that sorts otherwise: its pack says by which versions it was built, setup rebuilds what depends on
// them before anybody looks a row up, and refuses a locale that the machine has not.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AgentError } from "../../agent/errors.ts";
import { homeAt } from "../../agent/home.ts";
import { inspectPack } from "../../agent/pack/open.ts";
import { isStale, readCollations } from "../../agent/postgres/collations.ts";
import { openPool } from "../../agent/postgres/connect.ts";
import { localTarget, startCluster, stopCluster } from "../../agent/postgres/server.ts";
import { clusterAt } from "../../agent/setup/cluster.ts";
import { tryCollations } from "../../agent/setup/collations.ts";
import { setupPrimary } from "../../agent/setup/primary.ts";
import { setupSecondary } from "../../agent/setup/secondary.ts";
import { Steps } from "../../agent/setup/steps.ts";
import { freePort, versions, withServer } from "../helpers/servers.ts";

const names = { primary: "127.0.0.1:18281", secondary: "127.0.0.1:18282" };

for (const version of versions) {
  test(`PostgreSQL ${version}: the indexes of a copy are rebuilt where its machine sorts otherwise`, async () => {
    await withServer(version, async (server) => {
      await server.pool()`create database shop template template0 encoding utf8 locale_provider icu icu_locale 'de'
        locale 'C'`;
      const shop = server.pool({ database: "shop" });
      await shop.unsafe(`create collation "Swedish ö" (provider = icu, locale = 'sv');
        create table person (id int primary key, name text unique, town text collate "Swedish ö");
        create index "By town" on person (town);
        create index by_upper on person (upper(name) collate "Swedish ö") where id > 0;
        create table plain (code text collate "C" primary key);
        insert into person values (1, 'Öhm', 'Åre'), (2, 'Zoe', 'Zell')`);
      const used = await readCollations(shop);
      const of = (label: string) => used.find((one) => one.label === label);
      assert.deepEqual(of("shop")?.indexes, ["public.person_name_key"]);
      assert.deepEqual(of(`public."Swedish ö"`)?.indexes, [`public."By town"`, "public.by_upper"]);
      assert.deepEqual(used.filter(isStale), []);

      // As if this primary's machine had sorted by another release.
      await shop.unsafe(`update pg_database set datcollversion = '1.2' where datname = 'shop';
        update pg_collation set collversion = '1.2' where collname = 'Swedish ö'`);
      const home = homeAt(server.folder);
      const key = join(server.folder, "key");
      writeFileSync(key, randomBytes(48), { mode: 0o600 });
      const { pgdata, port, binaries } = server.cluster;
      await setupPrimary(
        home,
        names,
        { pgdata, pgPort: port, pgBin: binaries.binDir, dbname: "shop", key },
        new Steps(),
      );
      const { collations } = await inspectPack(home.packFile);
      assert.deepEqual(
        collations?.filter((one) => one.version === "1.2").map((one) => one.label),
        ["shop", `public."Swedish ö"`],
      );

      const other = homeAt(join(server.folder, "other"));
      const place = { pgdata: join(server.folder, "other", "data"), pgPort: await freePort() };
      const steps = new Steps();
      await setupSecondary(other, { pack: home.packFile, ...place, pgBin: binaries.binDir, key }, steps);
      const detail = (name: string) => steps.done.find((step) => step.name === name)?.detail;
      assert.match(detail("collations compared")!, /^indexes will be rebuilt: icu 1\.2 > \d/);
      assert.match(detail("indexes")!, /^\d+ rebuilt: icu 1\.2 > \d/); // those of schema ha too

      const copy = clusterAt(other, { pgdata: place.pgdata, binaries, port: place.pgPort, listen: "127.0.0.1" });
      await startCluster(copy);
      const sql = openPool(localTarget(copy, "shop"), { purpose: "test", max: 1 });
      try {
        assert.deepEqual((await readCollations(sql)).filter(isStale), [], "recorded anew");
        const files = (from: typeof sql) =>
          from<{ name: string; file: string }[]>`select relname as name, pg_relation_filenode(oid) as file from pg_class
            where relname in ('person_name_key', 'By town', 'by_upper', 'plain_pkey') order by relname`;
        const [here, there] = [await files(sql), await files(shop)];
        const rebuilt = here.filter(({ file }, at) => file !== there[at].file).map(({ name }) => name);
        assert.deepEqual(rebuilt.sort(), ["By town", "by_upper", "person_name_key"], "and nothing else");
        const [{ writable }] = await sql`select writable from ha.status`;
        assert.equal(writable, false);
      } finally {
        await sql.end();
        await stopCluster(copy);
      }
    });
  });
}

test("a locale that this machine has not is known before anything is touched", async () => {
  await withServer(versions[0], async (server) => {
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith("hapair-")).sort();
    const of = (provider: string, locale: string) => ({ label: "shop", provider, locale, version: "1" });
    const wanted = [of("libc", "xx_NOWHERE.UTF-8"), of("icu", "de"), of("builtin", "C.UTF-8")];
    const { binaries, user } = server.cluster;
    const [libc, icu, builtin] = await tryCollations(binaries, user, wanted);
    assert.equal(libc, "missing");
    assert.match((icu as { version: string }).version, /^\d/);
    assert.equal(builtin, null);
    assert.deepEqual(readdirSync(tmpdir()).filter((name) => name.startsWith("hapair-")).sort(), before, "all removed");
    assert.ok(existsSync(server.folder));
  }, { start: false });
});

test("the refusal is exit code 3", async () => {
  const { judgeCollations } = await import("../../agent/setup/collations.ts");
  const one = { label: "shop", provider: "libc", locale: "sv_SE.UTF-8", version: "2.36" };
  assert.throws(() => judgeCollations({ missing: [one], changed: [] }), (error: AgentError) => {
    assert.match(error.message, /does not know sv_SE\.UTF-8, by which shop is sorted/);
    assert.match(error.remedy, /locale-gen sv_SE\.UTF-8/);
    return error.exitCode === 3;
  });
});
