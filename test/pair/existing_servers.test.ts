// Two servers that somebody else runs, in Debian's layout, become a pair: set up online, started by start_command when
// they are down and after a crash, and closed to writers when their agent ends.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { makeDebianServer } from "../helpers/debian_server.ts";
import { waitEqual } from "../helpers/equality.ts";
import { failover, planPair, waitSteady } from "../helpers/pair.ts";
import { killTree } from "../helpers/processes.ts";
import { scopedTest } from "../helpers/scope.ts";
import { waitFor } from "../helpers/wait.ts";

scopedTest(
  "servers with their configuration outside of PGDATA: set up, started, crashed, left closed",
  async (scope) => {
    const pair = await planPair(scope);
    const { primary, secondary, version, keyFile } = pair;
    const [here, there] = [
      await makeDebianServer(scope, { version, name: "db1", listen: primary.host }),
      await makeDebianServer(scope, { version, name: "db2", listen: secondary.host }),
    ];
    here.start();
    there.start();
    await here.pool("postgres")`CREATE DATABASE app`;
    const app = here.pool("app");
    await app`CREATE TABLE item (id int PRIMARY KEY, name text)`;
    await app`INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 1000) i`;
    await there.pool("postgres")`CREATE DATABASE former`;
    const commands = (
      { startCommand, stopCommand }: typeof here,
    ) => ["--start-command", startCommand, "--stop-command", stopCommand];

    const pid = here.pid;
    await primary.agent([
      ...["setup", "primary", primary.name, secondary.name, "--database", here.url("app")],
      ...["--key", keyFile, "--create-key", ...commands(here)],
    ]);
    assert.equal(here.pid, pid, "set up without a restart");
    const setup = [
      ...["setup", "secondary", "--pack", join(primary.home, "replication", "HAPack.zip"), "--key", keyFile],
      ...["--pgdata", there.pgdata, "--pg-bin", there.binDir, "--database", there.url("app")],
    ];
    const refused = await secondary.agent([...setup, "--replace"], { expect: 3 });
    assert.match(refused.stderr, /a PostgreSQL server runs in it\nTry: stop it first, or add --stop-command/);
    await secondary.agent([...setup, ...commands(there)], { expect: 3 }); // without --replace nothing is put aside
    const conf = readFileSync(join(there.etc, "postgresql.conf"), "utf8");
    const made = JSON.parse((await secondary.agent([...setup, ...commands(there), "--replace", "--json"])).stdout);
    assert.ok(existsSync(join(made.kept_aside, "PG_VERSION")), "the former data is kept");
    assert.equal(readFileSync(join(there.etc, "postgresql.conf"), "utf8"), conf, "its configuration is untouched");
    const copy = there.pool("app");
    const [{ file, trust }] = await copy`SELECT current_setting('config_file') AS file,
    (SELECT count(*)::int FROM pg_hba_file_rules WHERE auth_method = 'trust' AND database = '{all}') AS trust`;
    assert.deepEqual([file, trust], [join(there.etc, "postgresql.conf"), 1], "it runs by its own configuration");
    await assert.rejects(copy`INSERT INTO item VALUES (0, 'no')`, { code: "25006" });

    // Both are down: each agent starts its own.
    here.stop();
    there.stop();
    for (const node of [primary, secondary]) {
      node.configure({ failover, node: { listen: node.name } });
      node.start();
    }
    await waitSteady(pair);
    await app`INSERT INTO item VALUES (1001, 'replicated')`;
    await waitEqual(app, copy);
    for (const node of [primary, secondary]) {
      const { stdout } = await node.agent(["check"]);
      assert.match(stdout, /^ok .*port_database.*PostgreSQL of \S+, can be reached$/m);
    }

    // A crash.
    const before = here.pid!;
    killTree(before);
    await waitFor(() => here.pid !== undefined && here.pid !== before, {
      what: "the primary's PostgreSQL to be started again",
      deadlineMs: 60_000,
    });
    await waitSteady(pair);
    await app`INSERT INTO item VALUES (1002, 'after the crash')`;
    await waitEqual(app, copy);

    // The agents end, their servers do not; nothing is written there that nobody would replicate.
    await secondary.stop();
    await primary.stop();
    assert.ok(here.pid !== undefined && there.pid !== undefined);
    await assert.rejects(app`INSERT INTO item VALUES (1003, 'unwatched')`, { code: "25006" });
    primary.start();
    secondary.start();
    await waitSteady(pair);
    await app`INSERT INTO item VALUES (1003, 'watched')`;
    await waitEqual(app, copy);
  },
  { timeoutMs: 300_000 },
);
