// What agent.toml says about policies, as a whole: one text for all that must be equal on both nodes, and what of the
// config has no effect. Which policy a table has is looked up in table_policies.ts.
import { createHash } from "node:crypto";
import type { Config } from "../config.ts";
import { policyOfEntry } from "../table_policies.ts";

export { policyFor, secretOf } from "../table_policies.ts";

/** Changes with anything that both nodes must agree on, and with nothing else: not with the order of keys. */
export function configHash(config: Config): string {
  const tables = config.table.map((entry) => ({
    match: entry.match,
    policy: policyOfEntry(config, entry),
    secret: [...new Set(entry.secret)].sort(),
  }));
  const rules = config.primary_only.map(({ table, columns, operations, message }) => ({
    table,
    columns: columns ? [...new Set(columns)].sort() : null,
    operations: [...new Set(operations)].sort(),
    message,
  }));
  const all = JSON.stringify([policyOfEntry(config, undefined), tables, rules]);
  return createHash("sha256").update(all).digest("hex").slice(0, 16);
}

/** The alarm for rules that are not the same on both nodes, from the peer's report; null if they are. */
export function policiesDiffer(config: Config, peer: { name: string; config_hash: string }) {
  if (configHash(config) === peer.config_hash) return null;
  return {
    message:
      `Cannot rely on the rules: agent.toml of ${config.node.name} and that of ${peer.name} differ in [merge], ` +
      "[[table]] or [[primary_only]]",
    remedy: "make these sections the same in both files, and restart both agents",
  };
}

/** What the config asks for and this version does not do yet: nobody may believe that it is done. */
export function withoutEffect({ alerts, console }: Config): string[] {
  const found: [string, boolean][] = [
    ["[alerts]: none are sent", alerts.smtp !== undefined || alerts.webhook !== undefined],
    ["[console]: there is none", console !== undefined],
  ];
  return found.flatMap(([what, asked]) => asked ? [what] : []);
}
