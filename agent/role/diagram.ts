// The state machine as mermaid text, drawn from the table, for ARCHITECTURE.md. Draws what is there; adds nothing.
import { type Role, roles } from "../report.ts";
import { firstRecord } from "./states.ts";
import { transitions } from "./transitions.ts";

/** Both machines as mermaid code blocks, without trailing newline. */
export function diagrams(): string {
  return roles.map((role) => `The ${role}:\n\n\`\`\`mermaid\n${diagramOf(role)}\n\`\`\``).join("\n\n");
}

export function diagramOf(role: Role): string {
  const lines = ["stateDiagram-v2", `  [*] --> ${firstRecord(role, 0).state}`];
  for (const { from, to, label } of transitions.filter((row) => row.role === role)) {
    lines.push(`  ${from} --> ${to}: ${label}`);
  }
  return lines.join("\n");
}
