// `agent pack create|inspect|verify`: packs apart from setup.
import { resolve } from "node:path";
import type { Command } from "commander";
import { inspectPack, openCopy } from "../agent/pack/open.ts";
import { createNewPack } from "../agent/setup/create_pack.ts";
import { chooseKey } from "../agent/setup/key.ts";
import { contextOf, parseText } from "./context.ts";
import { watchSteps } from "./steps.ts";

export function addPack(program: Command): void {
  const pack = program.command("pack").description("make, show and verify packs");
  pack.command("create")
    .description("make a new pack on a primary that is set up; PostgreSQL must be running")
    .option("--replace", "although a secondary has joined: it must be set up again")
    .action(async (options: { replace?: boolean }, command: Command) => {
      const context = contextOf(command);
      const { file, fileBytes, manifest } = await createNewPack(context.home, options, watchSteps(context));
      context.print({ pack: file, pack_bytes: fileBytes, ...manifest }, `Ready: ${file}`);
    });
  pack.command("inspect")
    .description("show what a pack or a backup says of itself, without authenticating it")
    .argument("<file>", "HAPack.zip", parseText)
    .action(async (file: string, _options: unknown, command: Command) => {
      const context = contextOf(command);
      const manifest = await inspectPack(resolve(file));
      const { postgres, members, backup } = manifest;
      context.print(
        manifest,
        [
          ...(backup ? [`backup of       the ${backup.role} ${backup.node}; no secondary can be made from it`] : [
            `pack of         ${manifest.primary.name} (${manifest.primary.address})`,
            `for             ${manifest.secondary.name} (${manifest.secondary.address})`,
          ]),
          `made            ${manifest.created_at} by version ${manifest.agent_version}`,
          `pair            ${manifest.pair_id}, generation ${manifest.generation}`,
          `PostgreSQL      ${postgres.version}, database ${postgres.dbname}, port ${postgres.port}`,
          `WAL             ${postgres.start_lsn} to ${postgres.end_lsn}, timeline ${postgres.timeline}`,
          ...members.map(({ name, size, head, sha256 }) =>
            `${name.padEnd(20)} ${size} bytes, sha256 ${head === undefined ? "" : `of the first ${head} `}${sha256}`
          ),
          "not authenticated: agent pack verify does that",
        ].join("\n"),
      );
    });
  pack.command("verify")
    .description("verify a pack or a backup with the master key: every byte, every file")
    .argument("<file>", "HAPack.zip", parseText)
    .option("--key <file>", "the master key (default: that of manage_key.conf)", parseText)
    .action(async (file: string, options: { key?: string }, command: Command) => {
      const context = contextOf(command);
      const steps = watchSteps(context);
      const opened = await openCopy(resolve(file), chooseKey(context.home, options));
      try {
        const result = await steps.run("verified", () => opened.verify(steps.progress("verified")));
        const { generation, backup } = opened.manifest;
        context.print(
          { ok: true, ...result, generation, ...(backup ? { backup } : {}) },
          `${backup ? `backup of the ${backup.role} ${backup.node}: ` : ""}${result.files} files, ` +
            `${Math.round(result.bytes / 1e6)} MB: all as PostgreSQL's manifest says`,
        );
      } finally {
        await opened.close();
      }
    });
}
