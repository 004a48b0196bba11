// A new generation of the pair: rows, slot, join certificate and the pack that belongs to them, in that order.
// Never takes a joined secondary's slot away unless that was asked for: it could not catch up any more.
import { slotName } from "../change/marks.ts";
import { RefusedError } from "../errors.ts";
import type { Home } from "../home.ts";
import { type CreatedPack, createPack } from "../pack/create.ts";
import { refuseInData } from "../pack/outside.ts";
import type { Sql, Target } from "../postgres/connect.ts";
import { openJoin, pinnedPeer } from "../trust/join.ts";
import type { MasterKey } from "../trust/key.ts";
import { agentVersion } from "../version.ts";
import { dropSlot, ensureSlot } from "../wal/slot.ts";
import { beginGeneration, readFallbackSettings } from "./database.ts";
import type { NodeName } from "./names.ts";
import { rateText, type Steps } from "./steps.ts";

export interface NewPack {
  readonly home: Home;
  readonly target: Target;
  readonly sql: Sql;
  readonly key: MasterKey;
  readonly primary: NodeName;
  readonly secondary: NodeName;
  readonly port: number;
  readonly certificate: string;
  /** The shared part of agent.toml. */
  readonly rules: string;
  /** Another place for the pack than the home's. */
  readonly file?: string;
  readonly steps: Steps;
}

/** Refuses where a secondary would lose its place. */
export function checkReplaceable(home: Home, secondary: string, replace: boolean): void {
  if (replace || pinnedPeer(home) === null) return;
  throw new RefusedError(
    `Cannot make a new pack: ${secondary} has joined this pair and would be cut off by it`,
    "add --replace, and set the secondary up again from the new pack",
  );
}

export async function makeNewPack(request: NewPack): Promise<CreatedPack & { file: string; slotLsn: bigint }> {
  const { home, target, sql, key, primary, secondary, port, steps } = request;
  const file = request.file ?? home.packFile;
  await refuseInData(sql, key, file);
  const { pairId, generation } = await steps.run("pair", () => beginGeneration(sql), (pair) => pair.pairId);
  const slotLsn = await steps.run("replication slot", async () => {
    await dropSlot(sql, slotName);
    return await ensureSlot(sql, slotName);
  }, () => slotName);
  const join = await openJoin(home);
  const settings = await readFallbackSettings(sql);
  const began = performance.now();
  const pack = await steps.run(
    "pack",
    () =>
      createPack({
        file,
        target,
        sql,
        key,
        facts: {
          agent_version: agentVersion,
          pair_id: pairId,
          generation,
          primary: { name: primary.name, address: primary.address },
          secondary: { name: secondary.name, address: secondary.address },
          port,
        },
        pair: { primary_certificate: request.certificate, join, rules: request.rules, settings },
        onProgress: steps.progress("pack"),
      }),
    ({ fileBytes }) => `${file}, ${rateText(fileBytes, performance.now() - began)}`,
  );
  return { ...pack, file, slotLsn };
}
