// `agent service print`: the systemd unit for this home. Reads only; installs nothing.
import { statSync } from "node:fs";
import { basename } from "node:path";
import process from "node:process";
import { readConfig } from "../config.ts";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { findUser } from "../postgres/os_user.ts";
import { serviceUnit } from "./service_unit.ts";

/** Where the README puts the agent; for who runs it from its sources. */
const usualPlace = "/usr/local/bin/agent";

export function unitOf(home: Home): string {
  const { postgres } = readConfig(home.configFile);
  const { uid } = statSync(home.configFile);
  const user = uid === 0 ? null : findUser(String(uid))?.name ?? String(uid);
  const unfit = [home.root, ...(postgres.pgdata ? [postgres.pgdata] : [])].find((path) => /\p{Cc}/u.test(path));
  if (unfit !== undefined) {
    throw new RefusedError(`Cannot print a unit: systemd has no way to name ${unfit}`, "give that folder another name");
  }
  return serviceUnit({
    executable: /^(bun|deno|node)\b/.test(basename(process.execPath)) ? usualPlace : process.execPath,
    home: home.root,
    user,
    pgdata: postgres.url ? null : postgres.pgdata!,
  });
}
