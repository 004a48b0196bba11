// One node, wired: the only file that knows every part. `runNode` brings it up in the order in which the parts need each
// other and takes it down in the reverse; it decides nothing itself.
import { getLogger } from "@logtape/logtape";
import { mkdirSync } from "node:fs";
import { adminApp } from "./api/admin_routes.ts";
import { type PlainListener, serveAdmin, serveHealth } from "./api/admin_serve.ts";
import { healthApp } from "./api/health_routes.ts";
import { peerApp } from "./api/peer_routes.ts";
import { type PeerListener, servePeers } from "./api/serve.ts";
import { type Config, readConfig, splitAddress } from "./config.ts";
import { type DatabaseView, lookAt, nodeDatabase, openOwnPool, readPair, requireRole } from "./node/database.ts";
import { reason, UnreachableError } from "./errors.ts";
import { Later } from "./node/later.ts";
import { ConflictCounts, type ConflictFigures } from "./node/conflict_counts.ts";
import { CertificateWatch } from "./node/certificate_watch.ts";
import { checkForPeer } from "./node/check.ts";
import { conflictOperations } from "./node/conflicts.ts";
import { DiskWatch } from "./node/disk_watch.ts";
import { Gate } from "./node/gate.ts";
import { handsOf } from "./node/hands.ts";
import { Hooks } from "./node/hooks.ts";
import type { Home } from "./home.ts";
import { closeBehind, keeperOf } from "./node/keeping.ts";
import { MergeHold } from "./node/merge_hold.ts";
import { mergeOperations, type MergeParts } from "./node/merge_operations.ts";
import { operatorCommands, type OperatorParts } from "./node/operator_commands.ts";
import { ConflictNews } from "./node/conflict_news.ts";
import { Peer } from "./node/peer.ts";
import { KeyWatch } from "./node/key_watch.ts";
import { isUnreachable } from "./postgres/connect.ts";
import { migrate } from "./postgres/migrations.ts";
import { Replication } from "./node/replication.ts";
import type { NodeReport } from "./report.ts";
import { Heartbeat, heartbeatTimeout } from "./role/heartbeat.ts";
import { closeGuard, guardIsOpen, preparedTransactions } from "./role/guard.ts";
import { restarted } from "./role/machine.ts";
import { readRecord, writeRecord } from "./role/record.ts";
import { firstRecord } from "./role/states.ts";
import { Supervisor } from "./role/supervisor.ts";
import type { PairFacts } from "./setup/database.ts";
import { nodeReportOf } from "./node/node_report.ts";
import { statusInput } from "./node/node_status.ts";
import { metricsText } from "./monitor/metrics.ts";
import { buildStatus, type Status } from "./monitor/status.ts";
import { answerPack, packSource } from "./node/pack_answer.ts";
import { packMaker } from "./node/pack_maker.ts";
import { tokenOperations, type TokenParts } from "./node/token_operations.ts";
import { Troubles } from "./node/troubles.ts";
import { policiesDiffer, withoutEffect } from "./node/policies.ts";
import { Tables } from "./node/tables.ts";
import { Teardown } from "./node/teardown.ts";
import { readRow } from "./node/rows.ts";
import { SequenceWatch } from "./node/sequence_watch.ts";
import type { RestoreDeps } from "./review/restore.ts";
import { startKey } from "./trust/key_watch.ts";

const log = getLogger(["hapair", "node"]);

/** A switchover or handback drains once no more than this is on its way; a handback that has just begun, an eighth. */
const nearBytes = 1024 * 1024;
/** The peer's stream counts as level within this distance. */
const levelBytes = 16 * 1024 * 1024;

export interface RunningNode {
  /** Takes everything down, PostgreSQL too if the agent runs it. */
  stop(): Promise<void>;
}

/** A PostgreSQL that crashes while its node comes up is started again with it, so many times. */
const mostStarts = 5;

/** Runs a node until `stop`. Throws AgentErrors where it cannot start. */
export async function runNode(home: Home): Promise<RunningNode> {
  const config = readConfig(home.configFile);
  startKey(home);
  for (let start = 1;; start++) {
    const down = new Teardown();
    try {
      await bringUp(home, config, down);
      return { stop: () => down.run() };
    } catch (error) {
      await down.run();
      if (start === mostStarts || config.postgres.url !== undefined || !isUnreachable(error)) throw error;
      log.warn("PostgreSQL was lost while the node came up: {why}: it starts anew", { why: reason(error) });
    }
  }
}

async function bringUp(home: Home, config: Config, down: Teardown): Promise<void> {
  const { role, name } = config.node;
  const { failover } = config;
  const troubles = new Troubles();
  let view: DatabaseView | null = null;
  let counted: ConflictFigures = { total: 0, unreviewed: 0, quarantined: 0 };
  let listener: PeerListener | null = null;

  const idle = withoutEffect(config);
  if (idle.length > 0) {
    troubles.set("config", {
      message: `agent.toml asks for what this version does not do yet: ${idle.join("; ")}`,
      remedy: "take it out of agent.toml, so that nobody relies on it",
    });
  }

  mkdirSync(home.runDir, { recursive: true });
  const peer = new Peer(home, config);
  down.add("connections to the peer", () => peer.close());
  const setTrouble: Troubles["set"] = (name, problem) => troubles.set(name, problem);
  const reload = () => listener?.reload(peer.tls());
  const certificates = new CertificateWatch({ home, config, peer, reload, onTrouble: setTrouble });
  // The admin API answers from the first moment on, that nothing is known yet.
  const status = new Later<Status>("show the status");
  const conflicts = new Later<RestoreDeps>("look at conflicts");
  const merge = new Later<MergeParts>("look at the merge");
  const operator = new Later<OperatorParts>("give orders");
  const token = new Later<TokenParts>("make a token");
  const operations = [
    ...certificates.operations(),
    ...conflictOperations(conflicts.get),
    ...mergeOperations(merge.get),
    ...operatorCommands(operator.get),
    ...tokenOperations(token.get),
  ];
  const admin = await serveAdmin(home.adminSocket, adminApp({ status: status.get, operations }));
  down.add("admin API", () => admin.close());

  const database = nodeDatabase(home, config);
  const keeper = keeperOf(home, config, database);
  await keeper?.start();
  down.add("PostgreSQL", () => keeper?.stop(), null);
  const sql = openOwnPool(database.target);
  down.add("connections to PostgreSQL", () => sql.end({ timeout: 2 }));
  await migrate(sql);
  let pair: PairFacts = await readPair(sql);
  await requireRole(sql, role);
  const tables = await Tables.open({ sql, config, origin: home.configFile, onTrouble: setTrouble });
  const sequences = new SequenceWatch({ sql, role, onTrouble: setTrouble });
  conflicts.is(() => ({ sql, target: database.target, peer: config.peer.name, secretOf: tables.secretOf }));
  const record = restarted(readRecord(home.stateFile) ?? firstRecord(role, Date.now()), Date.now());
  // After a crash the guard is closed, but the database still tells clients that look for it that it takes writes.
  const { epoch, state } = record;
  const gate = new Gate();
  if (!await guardIsOpen(sql)) await gate.shut(closeGuard(sql, { dbname: config.postgres.dbname, epoch, state }));

  const hold = new MergeHold(home.mergeHoldFile);
  const news = new ConflictNews();
  down.add("news of conflicts", () => news.tell());
  const newReplication = (): Replication =>
    new Replication({
      role,
      generation: pair.generation,
      sql,
      target: database.target,
      client: () => peer.client(),
      policyOf: tables.policyOf,
      closed: () => supervisor.record.state === "catching_up" && gate.isShut,
      held: () => hold.since !== null,
      onProgress: () => {
        if (heartbeat.contact().report?.state === "draining") supervisor.wake();
      },
      onConflict: (entry) => news.add(entry),
      onTrouble: setTrouble,
    });
  let replication = newReplication();

  const report = (): NodeReport =>
    nodeReportOf({ config, pair, view, supervisor, replication, peer, contact: heartbeat.contact() });

  const heartbeat: Heartbeat = new Heartbeat({
    everyMs: failover.heartbeat_ms,
    timeoutMs: heartbeatTimeout({ heartbeatMs: failover.heartbeat_ms, afterMs: failover.after_ms }),
    send: async (timeoutMs, signal) => {
      const client = await peer.joined({ name, pair_id: pair.pairId, generation: pair.generation });
      if (!client) throw new UnreachableError("Cannot reach the peer: none has joined", "start the secondary");
      const theirs = await client.heartbeat(report(), { timeoutMs, signal });
      heard(theirs);
      return theirs;
    },
    onResult: () => supervisor.wake(),
  });
  const heard = (theirs: NodeReport) => {
    troubles.set("policies_differ", policiesDiffer(config, theirs));
    replication.notePeerProgress(theirs.generation === pair.generation ? theirs.applied_lsn : "0/0");
    if (!replication.status().connected) replication.wake();
  };

  const disks = new DiskWatch({
    pgdata: database.cluster && config.postgres.pgdata!,
    runDir: home.runDir,
    floorMb: failover.min_free_mb,
    onTrouble: setTrouble,
  });
  const conflictCounts = new ConflictCounts(sql);
  const observe = async () => {
    const diskFull = await disks.isFull();
    try {
      // First: a certificate that is put there by hand counts also while the database does not answer.
      if (peer.trustChanged()) {
        log.info("the trusted certificates have changed: taken over");
        reload();
      }
      // Before the generation is read: a new pack has a new one before it opens a join.
      const join = peer.openJoin();
      view = await lookAt(sql);
      if (join !== null && heartbeat.contact().report?.generation === view.generation) {
        peer.endJoin(join);
        reload();
        log.info("the secondary runs what the newest pack was made for: nobody else may join with it");
      }
      counted = await conflictCounts.look();
    } catch (error) {
      view = null;
      throw error;
    }
    if (view.generation !== pair.generation) {
      log.info("a new pack was made: replication starts anew with its generation");
      await replication.stop();
      pair = await readPair(sql);
      replication = newReplication();
    }
    await replication.watch();
    const incoming = replication.status();
    const pending = peer.pendingBytes(heartbeat.contact().report, incoming);
    return {
      databaseOk: true,
      diskFull,
      appliedLsn: incoming.applied,
      currentLsn: view.currentLsn,
      preparedOpen: view.prepared > 0,
      level: incoming.connected && pending !== null && pending <= levelBytes,
      peerExpected: role === "secondary" || peer.pinned,
    };
  };

  const hooks = new Hooks({ script: config.hooks.on_role_change, node: name, onTrouble: setTrouble });
  down.add("hooks", () => hooks.stop());
  const supervisor: Supervisor = new Supervisor({
    record,
    settings: {
      afterMs: failover.after_ms,
      peerWaitMs: failover.peer_wait_ms,
      steadyMs: failover.steady_ms,
      nearBytes,
    },
    everyMs: failover.heartbeat_ms,
    hands: {
      ...handsOf(config, { sql, sequences, gate }, () => replication),
      observe,
      persist: (record) => writeRecord(home.stateFile, record),
      announce: ({ from, to, epoch, why }) =>
        log.info("{from} > {to} (epoch {epoch}): {why}", { from, to, epoch, why }),
      tellPeer: () => heartbeat.nudge(),
      contact: () => heartbeat.contact(),
      holds: (record) => hooks.tell(record),
    },
  });
  // Closed or open as it was left, until the first turn: but the record must be there before anything is acted on.
  writeRecord(home.stateFile, supervisor.record);

  merge.is(() => ({
    role,
    sql,
    hold,
    replication: () => replication,
    secretOf: tables.secretOf,
    peer: () => {
      const { report, silentMs } = heartbeat.contact();
      return { name: config.peer.name, reachable: report !== null && silentMs < failover.after_ms, report };
    },
    tellPeer: () => heartbeat.nudge(),
  }));

  operator.is(() => ({
    name,
    peerName: config.peer.name,
    afterMs: failover.after_ms,
    supervisor,
    contact: () => heartbeat.contact(),
    tellPeer: () => heartbeat.nudge(),
    database: () => view,
    pendingBytes: () => report().incoming_pending_bytes,
    mergeHeld: () => replication.mergeHeld,
    prepared: () => preparedTransactions(sql, config.postgres.dbname),
  }));

  const contact = () => heartbeat.contact();
  const keyWatch = new KeyWatch({ home, config, contact, client: () => peer.client(), pairId: () => pair.pairId });
  await keyWatch.start();
  down.add("watch of the key", () => keyWatch.stop());

  let last: Status | null = null;
  status.is(() => {
    const parts = {
      config,
      key: keyWatch.view(),
      certificates: certificates.alerts(),
      record: supervisor.record,
      view,
      databaseOk: supervisor.health.databaseOk,
      conflicts: counted,
      url: database.url,
      contact: heartbeat.contact(),
      replication: replication.status(),
      incomingBytes: peer.pendingBytes(heartbeat.contact().report, replication.status()),
      troubles: troubles.list(),
      mergeHeldSince: hold.since,
    };
    last = buildStatus(statusInput(parts), Date.now(), last?.alerts ?? []);
    return last;
  });

  const pack = packSource(home, sql);
  listener = await servePeers({
    listen: splitAddress(config.node.listen),
    tls: peer.tls(),
    app: peerApp({
      report,
      heard: (theirs) => {
        heard(theirs);
        heartbeat.heard(theirs);
        troubles.set("pair", null);
      },
      mismatched: (message) =>
        troubles.set("pair", {
          message: `Cannot pair: ${message}`,
          remedy: "see [peer] in agent.toml on both servers",
        }),
      readRow: (request) => readRow(sql, request),
      position: () => replication.position(),
      takeCertificate: (request, shown) => certificates.take(request, shown),
      proveKey: (request) => keyWatch.answer(request),
      check: checkForPeer({ home, config, target: database.target }),
      packs: packMaker({ home, config, serves: () => supervisor.record.state === "serving" }),
      join: (request) => {
        const answer = peer.pin(request, name);
        reload();
        log.info("the secondary {name} has joined", { name: request.name });
        heartbeat.nudge();
        return answer;
      },
    }),
    raw: {
      "/v1/changes": (request, response) => replication.serve(request, response),
      "/v1/pack": (request, response) => answerPack(pack, request, response),
    },
  });
  token.is(() => ({ home, config, pack, peer, trustChanged: reload }));
  down.add("peer API", () => listener?.close());
  down.add("replication", () => replication.stop());

  if (config.health) {
    const health: PlainListener = await serveHealth(
      splitAddress(config.health.listen),
      healthApp(() => ({
        name,
        role,
        state: supervisor.record.state,
        epoch: supervisor.record.epoch,
        writable: view?.writable ?? false,
        databaseOk: supervisor.health.databaseOk,
        peerReachable: heartbeat.contact().silentMs < failover.after_ms,
      }), () => metricsText(status.get())),
    );
    down.add("health API", () => health.close());
  }

  if (!database.cluster) down.add("writes", () => closeBehind(sql, config.postgres.dbname, supervisor.record));
  heartbeat.start();
  supervisor.start();
  certificates.start();
  down.add("certificates", () => certificates.stop());
  tables.start();
  down.add("watch of the tables", () => tables.stop());
  sequences.start();
  down.add("watch of the sequences", () => sequences.stop());
  down.add("heartbeats", () => heartbeat.stop());
  down.add("supervisor", () => supervisor.stop());
  log.info("{role} {name} runs", { role, name });
}
