// Leaves the pair of the quickstart running as set up, without the link between, and prints how to reach it.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { homeAt } from "../../agent/home.ts";
import { executable } from "./node.ts";
import { chapter, plain, step } from "./tell.ts";
import type { Tour } from "./tour.ts";

export async function keepPair(tour: Tour): Promise<void> {
  const { primary, secondary, link, place } = tour.pair();
  chapter("The pair stays");
  await step("both agents stopped", async () => {
    await secondary.stop();
    await primary.stop();
    await link.close();
  });
  await step("both agents started, now without the link that could be cut", async () => {
    primary.route({ listen: place.primary.peer, peer: place.secondary.peer });
    secondary.route({ listen: place.secondary.peer, peer: place.primary.peer });
    primary.start();
    secondary.start();
    await primary.reach("serving", ({ node, peer }) => node.writable && peer.state === "standby");
  });
  const stop = join(place.dir, "stop");
  writeFileSync(stop, stopScript(place.dir, [secondary.agentPid!, primary.agentPid!]));
  chmodSync(stop, 0o755);
  const [a, b] = [place.primary.postgres, place.secondary.postgres];
  plain(`
Status     ${executable} status --home ${primary.home}
           ${executable} status --home ${secondary.home} --watch
Connect    PGPASSWORD=$(cat ${homeAt(primary.home).appPasswordFile}) \\
             psql "host=${a.host},${b.host} port=${a.port},${b.port} dbname=app user=app target_session_attrs=read-write"
Logs       ${primary.logFile}
           ${secondary.logFile}
Stop       ${stop}    (stops both and removes ${place.dir})`);
  await primary.sql.end({ timeout: 1 });
  await secondary.sql.end({ timeout: 1 });
}

function stopScript(dir: string, pids: number[]): string {
  return `#!/bin/sh
# Stops both agents, and PostgreSQL with them, and removes this folder. The secondary first, or it would take over.
set -eu
for pid in ${pids.join(" ")}; do
  kill "$pid" 2>/dev/null || continue
  while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
done
rm -rf '${dir}'
`;
}
