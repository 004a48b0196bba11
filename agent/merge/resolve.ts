// Which of two concurrent versions stays, by policy. Pure. Only the primary asks; any answer converges, as it is sent to
// the secondary as a verdict. Clocks decide here and nowhere else.
import type { ConflictKind, Role } from "./classify.ts";
import type { TablePolicy } from "./policy.ts";

export interface Versions {
  /** Commit times in microseconds; null where it is not known (a row deleted before the relay noted it). */
  readonly primaryTime: bigint | null;
  readonly secondaryTime: bigint | null;
}

export interface Verdict {
  readonly winner: Role;
  /** One sentence for people. */
  readonly why: string;
  /** The policy that decided, as agent.toml names it. */
  readonly policy: string;
}

/**
 * Decides one conflict. Of `merge_columns` it decides the columns that both sides changed, of `append_only` which of two
 * rows of one key keeps the key.
 */
export function resolve(kind: ConflictKind, policy: TablePolicy, versions: Versions): Verdict {
  switch (kind) {
    case "update_deleted":
      return byDeletePolicy(policy, "secondary", versions);
    case "delete_origin_differs":
      return byDeletePolicy(policy, "primary", versions);
    case "update_missing":
      return { winner: "secondary", why: "the row was missing at the primary", policy: policy.rows };
    case "cannot_apply":
      return { winner: "primary", why: "the primary's table refuses the secondary's version", policy: policy.rows };
    case "update_exists":
    case "multiple_unique_conflicts":
    case "exclusion_differs":
      return byRule(policy.unique, versions);
    case "foreign_key_dangling":
      return {
        winner: "primary",
        why: "the row that it refers to was deleted on the other side",
        policy: policy.dangling,
      };
    case "insert_exists":
      if (policy.rows === "append_only") return firstStays(versions);
      return byRule(policy.rows, versions);
    case "update_origin_differs":
      return byRule(policy.rows, versions);
  }
}

function byDeletePolicy({ deletes }: TablePolicy, updated: Role, versions: Versions): Verdict {
  if (deletes === "last_update_wins") return byRule(deletes, versions);
  const deleted: Role = updated === "primary" ? "secondary" : "primary";
  return deletes === "update_wins"
    ? { winner: updated, why: "an update wins over a delete: the row lives", policy: deletes }
    : { winner: deleted, why: "by policy a delete wins over an update", policy: deletes };
}

function byRule(rule: string, versions: Versions): Verdict {
  if (rule === "primary_wins") return { winner: "primary", why: "by policy the primary wins", policy: rule };
  if (rule === "secondary_wins") return { winner: "secondary", why: "by policy the secondary wins", policy: rule };
  const last = later(versions);
  const why = last === null
    ? versions.primaryTime === null
      ? "when the primary wrote is not known: the primary wins"
      : "both were written at the same time: the primary wins"
    : `the ${last}'s version was written last`;
  return { winner: last ?? "primary", why, policy: rule };
}

function firstStays(versions: Versions): Verdict {
  const winner = later(versions) === "primary" ? "secondary" : "primary";
  return { winner, why: "both rows stay: the later one gets a new key", policy: "append_only" };
}

function later({ primaryTime, secondaryTime }: Versions): Role | null {
  if (primaryTime === null || secondaryTime === null || primaryTime === secondaryTime) return null;
  return secondaryTime > primaryTime ? "secondary" : "primary";
}
