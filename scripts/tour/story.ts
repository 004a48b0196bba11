// The story that the quickstart tells, chapter by chapter. Each step waits for what it says; none goes on without it.
import { readFileSync, statSync } from "node:fs";
import { spawn } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { homeAt } from "../../agent/home.ts";
import { errorCode, type Sql } from "../../agent/postgres/connect.ts";
import { Application, changePassword, connect, lostWrites } from "./application.ts";
import { compare, differingRows, isEqual } from "./compare.ts";
import { Link } from "./link.ts";
import { text, TourNode } from "./node.ts";
import { findPlace } from "./place.ts";
import { chapter, duration, paint, plain, remark, step, table, timed } from "./tell.ts";
import type { Tour } from "./tour.ts";
import { until } from "./wait.ts";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

export async function tellStory(tour: Tour): Promise<void> {
  plain(paint("bold", "hapair: two PostgreSQL servers that fail over, may both be written, and lose no row"));
  await makePair(tour);
  await replicate(tour);
  await killPrimary(tour);
  await bringBack(tour);
  await split(tour);
  await prove(tour);
}

async function makePair(tour: Tour): Promise<void> {
  chapter("1  Two servers become a pair");
  await step("build of dist/agent", build, () => "dist/agent built: one executable for both servers");
  const place = tour.place = await findPlace();
  const primary = tour.primary = new TourNode("primary", place.primary, place);
  const secondary = tour.secondary = new TourNode("secondary", place.secondary, place);
  tour.link = await Link.open(place.primary, place.secondary);

  await step("agent setup primary", () =>
    primary.command(
      ...["setup", "primary", primary.name, secondary.name, "--key", join(place.dir, "master.key"), "--create-key"],
      ...["--pgdata", primary.pgdata, "--pg-bin", place.binDir, "--pg-port", String(place.primary.postgres.port)],
    ), () => `agent setup primary: PostgreSQL at ${text(place.primary.postgres)}, agent at ${primary.name}`);
  primary.route({ listen: place.primary.behind, peer: place.secondary.peer });
  primary.start();
  await step(
    "agent run",
    () => primary.reach("serving", ({ node }) => node.state === "serving" && node.writable),
    (s) => `agent run: the primary serves, PostgreSQL ${s.database.version}`,
  );
  await step(
    "an application moves in",
    () => loadVault(tour),
    (rows) => `an application moves in: schema vault, ${rows} rows`,
  );

  await step("agent pack create", () => primary.command("pack", "create"), () => {
    const size = statSync(homeAt(primary.home).packFile).size;
    return `agent pack create: HAPack.zip, ${(size / 1e6).toFixed(1)} MB, encrypted; the primary works on`;
  });
  await step(
    "agent setup secondary",
    () =>
      secondary.command<{ files: number }>(
        ...["setup", "secondary", "--pack", homeAt(primary.home).packFile, "--key", join(place.dir, "master.key")],
        ...["--pgdata", secondary.pgdata, "--pg-bin", place.binDir],
        ...["--pg-port", String(place.secondary.postgres.port)],
      ),
    ({ files }) => `agent setup secondary: ${files} files verified; PostgreSQL at ${text(place.secondary.postgres)}`,
  );
  secondary.route({ listen: place.secondary.behind, peer: place.primary.peer });
  secondary.start();
  await step("agent run", () => steady(tour), () => "agent run: the secondary stands by");
}

function build(): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(join(root, "scripts", "build"), { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    child.stdout.on("data", (chunk) => said += chunk);
    child.stderr.on("data", (chunk) => said += chunk);
    child.on("error", fail);
    child.on("close", (code) => code === 0 ? done() : fail(new Error(`scripts/build ended with ${code}:\n${said}`)));
  });
}

/** The pair's normal state, seen from both sides, with nothing on its way. */
async function steady(tour: Tour): Promise<void> {
  const { primary, secondary } = tour.pair();
  await secondary.reach(
    "standing by",
    ({ node, peer }) => node.state === "standby" && peer.reachable && peer.state === "serving",
  );
  await primary.reach(
    "serving",
    ({ node, peer, outgoing }) =>
      node.state === "serving" && node.writable && peer.reachable && peer.state === "standby" &&
      outgoing.pending_transactions === 0,
  );
}

function passwordOf({ home }: TourNode): string {
  return readFileSync(homeAt(home).appPasswordFile, "utf8").trim();
}

/** Runs `act` as the application, connected to that node whatever its state. */
async function asApplication<T>(tour: Tour, node: TourNode, act: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = connect(node.place.postgres, passwordOf(tour.pair().primary));
  try {
    return await act(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

function loadVault(tour: Tour): Promise<string> {
  return asApplication(tour, tour.pair().primary, async (sql) => {
    await sql.unsafe(readFileSync(join(root, "example", "vault.sql"), "utf8")).simple();
    const tables = ["person", "folder", "account", "password", "password_history", "share", "audit"];
    const counts = tables.map((name) => `(SELECT count(*) FROM vault.${name})`).join(" + ");
    const [{ rows }] = await sql.unsafe<{ rows: string }[]>(`SELECT ${counts} AS rows`);
    return Number(rows).toLocaleString("en");
  });
}

async function replicate(tour: Tour): Promise<void> {
  chapter("2  What the primary takes in, the secondary has");
  const { primary, secondary } = tour.pair();
  await asApplication(tour, primary, (here) =>
    asApplication(tour, secondary, async (there) => {
      await there`SELECT 1`;
      const times: number[] = [];
      for (let n = 1; n <= 21; n++) {
        await here`UPDATE vault.account SET note = ${`note ${n}`} WHERE id = 1`;
        const committed = performance.now();
        const arrived = () => there`SELECT FROM vault.account WHERE id = 1 AND note = ${`note ${n}`}`;
        await until("the row on the secondary", async () => (await arrived()).length === 1, { everyMs: 1 });
        times.push(performance.now() - committed);
      }
      timed(times[0], "after its commit on the primary a row is on the secondary");
      const sorted = times.slice(1).sort((a, b) => a - b);
      remark(`20 more: ${duration(sorted[10])} in the median, ${duration(sorted[19])} at most`);
      const refusal = await there`UPDATE vault.account SET note = 'no' WHERE id = 1`.then(() => null, (error) => error);
      if (errorCode(refusal) !== "25006") {
        throw new Error(`the secondary did not refuse a write as it should: ${refusal}`);
      }
      remark(`the secondary itself refuses writes while it stands by: ${refusal.message}`);
    }));
}

async function killPrimary(tour: Tour): Promise<void> {
  chapter("3  The primary's server dies");
  const { primary, place } = tour.pair();
  const app = tour.application = new Application({
    hosts: [place.primary.postgres, place.secondary.postgres],
    password: passwordOf(primary),
  });
  const hosts = `host=${place.primary.postgres.host},${place.secondary.postgres.host}`;
  remark(`an application changes passwords all the while: ${hosts} target_session_attrs=read-write`);
  await step("writes on the primary", () => written(app, 50), (n) => `${n} writes on the primary`);
  primary.kill();
  const killed = performance.now();
  // An answer that was on its way when the server died may come in yet.
  const first = await step(
    "kill -9 of agent and PostgreSQL",
    () => until("a write on the secondary", () => app.ackAfter(killed + 50)),
    (at) => `kill -9 of agent and PostgreSQL: ${duration(at - killed)} later the application writes on the secondary`,
  );
  await step("writes on the secondary", () => written(app, 100, first), (n) => `${n} writes on the secondary, alone`);
}

/** Waits for so many more acknowledged writes. */
async function written(app: Application, more: number, since = performance.now()): Promise<number> {
  const count = () => [...app.acknowledged.values()].filter((at) => at >= since).length;
  await until(`${more} writes`, () => app.ackAfter(since) !== undefined && count() >= more);
  return count();
}

async function bringBack(tour: Tour): Promise<void> {
  chapter("4  The primary is started again");
  const { primary, secondary } = tour.pair();
  const app = tour.application!;
  const began = performance.now();
  primary.start();
  await step(
    "agent run: catching up",
    () => primary.reach("serving", ({ node }) => node.state === "serving" && node.writable),
    () => "agent run: crash recovery, what it missed is taken in, then it serves again",
  );
  await step(
    "the secondary hands back",
    () => secondary.reach("standing by", ({ node }) => node.state === "standby"),
    () => "the secondary stands by again",
  );
  await step("writes on the primary", () => written(app, 50), (n) => `${n} writes on the primary`);
  const gap = app.longestGap(began, performance.now());
  await app.stop();
  remark(`the handback kept the application waiting for ${duration(gap)}; it saw nothing but that`);
}

async function split(tour: Tour): Promise<void> {
  chapter("5  The network between them fails, and both are written");
  const { primary, secondary, link } = tour.pair();
  link.cut();
  await step(
    "link cut",
    () => secondary.reach("serving", ({ node }) => node.state === "serving" && node.writable),
    () => "link cut: the secondary serves too, the primary goes on",
  );
  await step(
    "writes on both sides",
    () => writeApart(tour),
    () => "25 password changes on each side, and two logins changed on both",
  );
  link.heal();
  await step("link back: merging", async () => {
    await steady(tour);
    const equal = async () => (await compare(primary.sql, secondary.sql)).every(isEqual);
    // If they never are, the proof below shows where they differ.
    await until("both sides to be equal", equal, { deadlineMs: 15_000 }).catch(() => undefined);
  }, () => "link back: merged, the secondary stands by again with all of it");
  await showConflicts(primary);
}

const inSplit = (side: string, n: number): string => `${side} in the split ${n}`;

async function writeApart(tour: Tour): Promise<void> {
  const { primary, secondary } = tour.pair();
  const rename = (sql: Sql, id: number, to: string) => sql`UPDATE vault.account SET login = ${to} WHERE id = ${id}`;
  await asApplication(tour, primary, (here) =>
    asApplication(tour, secondary, async (there) => {
      for (let n = 0; n < 25; n++) {
        await changePassword(here, 100 + n, inSplit("primary", n));
        await changePassword(there, 200 + n, inSplit("secondary", n));
      }
      await rename(here, 17, "anna");
      await rename(there, 18, "bert");
      await pause(50); // so that it is plain which one was later
      await rename(there, 17, "berta");
      await rename(here, 18, "arthur");
    }));
}

async function showConflicts(primary: TourNode): Promise<void> {
  const conflicts = await primary.sql<{ key: string; ours: string; theirs: string; winner: string; kind: string }[]>`
    SELECT row_key ->> 'id' AS key, primary_row ->> 'login' AS ours, secondary_row ->> 'login' AS theirs, winner, kind
    FROM ha.conflict ORDER BY row_key ->> 'id'`;
  if (conflicts.length !== 2) throw new Error(`${conflicts.length} conflicts were logged, not 2`);
  remark("two rows were changed on both sides; the last update wins, ha.conflict keeps both versions whole:");
  table([
    ["vault.account", "primary", "secondary", "kept", "kind"],
    ...conflicts.map(({ key, ours, theirs, winner, kind }) => [
      `id ${key}`,
      `login ${ours}`,
      `login ${theirs}`,
      winner === "primary" ? ours : theirs,
      kind,
    ]),
  ]);
}

async function prove(tour: Tour): Promise<void> {
  chapter("6  Proof: every row of every table, on both sides");
  const { primary, secondary } = tour.pair();
  const compared = await step(
    "comparison",
    () => compare(primary.sql, secondary.sql),
    (all) =>
      all.every(isEqual) ? `${all.length} tables compared: all equal` : `${all.length} tables compared: NOT equal`,
  );
  table([
    ["table", "primary", "secondary", "hash of all rows"],
    ...compared.map((each) => [
      each.table,
      `${each.rows[0]} rows`,
      `${each.rows[1]} rows`,
      each.hash[0].slice(0, 12) + (isEqual(each) ? "  equal" : ` and ${each.hash[1].slice(0, 12)}  DIFFERENT`),
    ]),
  ]);
  const different = compared.filter((each) => !isEqual(each));
  for (const { table: name } of different) {
    const { onlyA, onlyB } = await differingRows(primary.sql, secondary.sql, name);
    for (const row of onlyA) remark(`${name}, on the primary only: ${row}`);
    for (const row of onlyB) remark(`${name}, on the secondary only: ${row}`);
  }
  if (different.length) throw new Error(`the sides differ in ${different.map((each) => each.table).join(", ")}`);
  const apart = Array.from({ length: 25 }, (_, n) => [inSplit("primary", n), inSplit("secondary", n)]).flat();
  const acknowledged = [...tour.application!.acknowledged.keys(), ...apart];
  for (const { sql, role } of [primary, secondary]) {
    const lost = await lostWrites(sql, acknowledged);
    if (lost.length) {
      throw new Error(`${lost.length} acknowledged writes are not on the ${role} exactly once: ${lost[0]}`);
    }
  }
  remark(`${acknowledged.length} password changes were acknowledged in all: each is there exactly once, on both sides`);
}
