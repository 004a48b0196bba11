// The policies of a table: what agent.toml may say about how its conflicts are decided. Words only; resolve.ts decides.

/** Of a row that both sides wrote, or inserted under one key. */
export const rowPolicies = [
  "last_update_wins",
  "primary_wins",
  "secondary_wins",
  "merge_columns",
  "append_only",
] as const;
/** Of a row that one side updated and the other deleted. */
export const deletePolicies = ["update_wins", "last_update_wins", "delete_wins"] as const;
/** Of rows of different keys that cannot stand side by side: unique and exclusion constraints. */
export const uniquePolicies = ["last_update_wins", "primary_wins", "secondary_wins"] as const;
/** Of a row whose parent the other side has deleted. */
export const danglingPolicies = ["quarantine", "restore_parent"] as const;

export type RowPolicy = typeof rowPolicies[number];
export type DeletePolicy = typeof deletePolicies[number];
export type UniquePolicy = typeof uniquePolicies[number];
export type DanglingPolicy = typeof danglingPolicies[number];

export interface TablePolicy {
  readonly rows: RowPolicy;
  readonly deletes: DeletePolicy;
  readonly unique: UniquePolicy;
  readonly dangling: DanglingPolicy;
}

export const defaultPolicy: TablePolicy = {
  rows: "last_update_wins",
  deletes: "update_wins",
  unique: "last_update_wins",
  dangling: "quarantine",
};
