// The receiver on a stream made by hand: what it commits, and what it tells the peer of it, where the stream stalls and
// where PostgreSQL is killed.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { Receiver } from "../../agent/apply/receiver.ts";
import { encodeSeen } from "../../agent/change/frames.ts";
import { type Lsn, parseLsn } from "../../agent/change/lsn.ts";
import { defaultPolicy } from "../../agent/merge/policy.ts";
import { openPool } from "../../agent/postgres/connect.ts";
import { processesIn } from "../../agent/postgres/postmaster.ts";
import { prepare } from "../helpers/flow.ts";
import * as make from "../helpers/messages.ts";
import { type TestServer, versions, withServer } from "../helpers/servers.ts";
import { waitFor } from "../helpers/wait.ts";

const table = make.relation(1, "public", "t", [{ name: "id", key: true }, { name: "v" }]);
const rows = (first: number, count: number) =>
  Array.from({ length: count }, (_, i) => make.insert(1, [Buffer.from(`${first + i}`), Buffer.from("value")]));
/** More than one batch holds. */
const manyRows = 20_000;

/** A receiver that gets what is written into `stream`; `told` has what the peer was told of. */
async function receiveInto(
  server: TestServer,
  stream: PassThrough,
  told: { position: Lsn; seen: Lsn }[],
  onTold: () => void = () => {},
) {
  const sql = server.pool();
  await sql`CREATE TABLE t (id text PRIMARY KEY, v text)`;
  await prepare(server, "postgres");
  const receiver = new Receiver({
    role: "secondary",
    own: () => null,
    policyOf: () => defaultPolicy,
    onConflict: () => assert.fail("nobody else writes here"),
    hasWriters: () => false,
    fetchRow: () => Promise.reject(new Error("nobody asks the peer for a row")),
    openStream: () => Promise.resolve(stream),
    openSql: (onClose) =>
      openPool(server.target(), {
        purpose: "apply",
        onClose,
        max: 1,
        settings: { session_replication_role: "replica" },
      }),
    onProgress: ({ position, seen }) => {
      told.push({ position, seen });
      onTold();
    },
    onTrouble: () => {},
    ready: () => Promise.resolve(),
    exclusively: (run) => run(),
  });
  receiver.start();
  const write = (...messages: Buffer[]) => void stream.write(Buffer.concat(messages.map(make.xlog)));
  return { sql, receiver, write };
}

for (const version of versions) {
  test(`a large transaction whose stream stalls is not committed in part (PostgreSQL ${version})`, async () => {
    await withServer(version, async (server) => {
      const stream = new PassThrough();
      const told: { position: Lsn; seen: Lsn }[] = [];
      const { sql, receiver, write } = await receiveInto(server, stream, told);
      try {
        // What the peer has seen is recorded after a while without data.
        stream.write(encodeSeen({ position: 100n, seen: 7n, idle: false }));
        await waitFor(() => told.at(-1)?.seen === 7n, { what: "what the peer has seen", deadlineMs: 20_000 });
        write(table, make.begin(200n, 5), ...rows(0, manyRows));
        await waitFor(async () => {
          const [{ count }] = await sql`SELECT count(*)::int FROM t`;
          assert.equal(count, 0);
          const [waiting] = await sql`SELECT FROM pg_stat_activity WHERE application_name = 'hapair apply'
            AND state = 'idle in transaction' AND clock_timestamp() - state_change > '2.5 s'`;
          return waiting !== undefined;
        }, {
          what: "the rows to wait for the rest of their transaction",
          deadlineMs: 20_000,
          inVain: () => told.at(-1)!.position >= 100n ? "progress was recorded in the midst of it" : undefined,
        });
        write(make.commit(200n, 300n));
        await waitFor(() => told.at(-1)?.position === 300n, { what: "the end of it", deadlineMs: 20_000 });
        const [{ count }] = await sql`SELECT count(*)::int FROM t`;
        assert.equal(count, manyRows);
      } finally {
        await receiver.stop();
      }
    });
  });

  test(`of a backlog the peer is told only what outlasts a crash (PostgreSQL ${version})`, async () => {
    await withServer(version, async (server) => {
      const transactions = 300, each = 500;
      const stream = new PassThrough({ highWaterMark: 64 << 20 });
      const told: { position: Lsn; seen: Lsn }[] = [];
      let killed = false;
      const { receiver, write } = await receiveInto(server, stream, told, () => {
        // The first to be told of, of the backlog's.
        if (killed || told.at(-1)!.position === 0n) return;
        killed = true;
        for (const pid of processesIn(server.cluster.pgdata)) process.kill(pid, "SIGKILL");
      });
      const end = (n: number) => BigInt(n + 1) * 1000n;
      write(table);
      for (let n = 0; n < transactions; n++) {
        write(make.begin(end(n) - 10n, n + 1), ...rows(n * each, each), make.commit(end(n) - 10n, end(n)));
      }
      await waitFor(() => killed, { what: "the kill", deadlineMs: 30_000 });
      await receiver.stop();
      await server.start();
      const [{ applied, count }] = await server.pool()`
        SELECT applied_lsn::text AS applied, (SELECT count(*)::int FROM t) AS count FROM ha.progress`;
      assert.ok(parseLsn(applied) >= told.at(-1)!.position, `told of ${told.at(-1)!.position}, there is ${applied}`);
      assert.equal(BigInt(count), parseLsn(applied) / 1000n * BigInt(each), "whole transactions, up to that position");
    }, { settings: { synchronous_commit: "off" } });
  });
}
