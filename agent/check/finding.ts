// One finding, in its three grades, and how several are summed up. Pure.
import { type Finding, severities } from "../check_report.ts";

/** A finding without the node that found it. */
export type Bare = Omit<Finding, "node">;

export const ok = (name: string, message: string): Bare => ({ name, severity: "ok", message, remedy: null });
export const warning = (name: string, message: string, remedy: string): Bare => ({
  name,
  severity: "warning",
  message,
  remedy,
});
export const failing = (name: string, message: string, remedy: string): Bare => ({
  name,
  severity: "error",
  message,
  remedy,
});

/** The first few names, and how many more. */
export function listed(names: readonly string[], most = 5): string {
  const more = names.length - most;
  return names.slice(0, most).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** The gravest of all; `ok` where there is none. */
export function worst(findings: readonly Finding[]): Finding["severity"] {
  const rank = findings.reduce((most, { severity }) => Math.max(most, severities.indexOf(severity)), 0);
  return severities[rank];
}
