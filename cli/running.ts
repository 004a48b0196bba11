// Whether the agent of a home runs, for commands that exchange what it works with. Asks only; starts and stops nothing.
import { existsSync } from "node:fs";
import { callAgent } from "../agent/api/admin_client.ts";
import { RefusedError, UnreachableError } from "../agent/errors.ts";
import type { Home } from "../agent/home.ts";

/** Throws RefusedError where an agent runs, whatever it answers. `doing`: what it is in the way of, e.g. "reseed". */
export async function refuseAgent(home: Home, doing: string, remedy: string): Promise<void> {
  if (!existsSync(home.adminSocket)) return;
  const runs = await callAgent(home.adminSocket, "GET", "/status").then(
    () => true,
    (error) => !(error instanceof UnreachableError && /no agent runs/.test(error.message)),
  );
  if (runs) throw new RefusedError(`Cannot ${doing}: the agent of this node runs`, remedy);
}
