// `agent service print`: the systemd unit of this node, to standard output.
import type { Command } from "commander";
import { unitOf } from "../agent/setup/service.ts";
import { contextOf } from "./context.ts";

export function addService(program: Command): void {
  const service = program.command("service").description("run this node as a service of the system");
  service.command("print")
    .description("print the systemd unit for this home: agent service print > /etc/systemd/system/hapair.service")
    .action((_options: unknown, command: Command) => {
      const context = contextOf(command);
      const unit = unitOf(context.home);
      context.print({ unit }, unit);
    });
}
