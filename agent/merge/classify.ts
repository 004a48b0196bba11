// Whether a change of the peer's meets an own change that it had not seen. Pure; knows no clock.
// Only the primary resolves; the secondary leaves the row as it is and waits for the verdict (see ARCHITECTURE.md).

export type Role = "primary" | "secondary";
export type Incoming = "insert" | "update" | "delete";

/**
 * PostgreSQL's names of conflicts, seen from the primary. Its own: `exclusion_differs` (an exclusion constraint),
 * `foreign_key_dangling`, and `cannot_apply` for what the table refuses for another reason.
 */
export type ConflictKind =
  | "insert_exists"
  | "update_origin_differs"
  | "update_deleted"
  | "update_missing"
  | "delete_origin_differs"
  | "update_exists"
  | "multiple_unique_conflicts"
  | "exclusion_differs"
  | "foreign_key_dangling"
  | "cannot_apply";

/** The row of the same key as it is here now. `unseen`: an own version that the change had not seen. */
export type Current = { readonly present: false } | { readonly present: true; readonly unseen: boolean };

export type Step =
  /** Write the change as it is. */
  | { readonly do: "apply" }
  /** Write the whole row, whether it is there or not. */
  | { readonly do: "upsert" }
  /** Nothing to do: the row is already as the change wants it. */
  | { readonly do: "nothing" }
  /** A pending version: the primary will find the same conflict and send its verdict. */
  | { readonly do: "leave" }
  | { readonly do: "resolve"; readonly kind: ConflictKind };

/**
 * What to do with a change. `mayBePending`: the row is gone, and was (at the primary: may have been) deleted here unseen
 * by the change.
 */
export function classify(role: Role, incoming: Incoming, current: Current, mayBePending: boolean): Step {
  if (current.present && current.unseen) {
    if (role === "secondary") return { do: "leave" };
    if (incoming === "insert") return { do: "resolve", kind: "insert_exists" };
    return { do: "resolve", kind: incoming === "update" ? "update_origin_differs" : "delete_origin_differs" };
  }
  if (current.present) return incoming === "insert" ? { do: "upsert" } : { do: "apply" };
  // A row that was deleted here, unseen by the insert, is a pending version too.
  if (incoming === "insert") return role === "secondary" && mayBePending ? { do: "leave" } : { do: "apply" };
  if (incoming === "delete") return { do: "nothing" };
  // An update of a row that is gone. The peer had it, so whoever deleted it did so unseen by the peer.
  if (!mayBePending) return { do: "resolve", kind: "update_missing" };
  return role === "secondary" ? { do: "leave" } : { do: "resolve", kind: "update_deleted" };
}
