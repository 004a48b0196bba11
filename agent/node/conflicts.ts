// What the command line may ask about conflicts, as operations of the admin API: list, show, restore, reviewed. Masks
// what is secret on the way out.
import { z } from "zod";
import { type AdminOperation, adminOperation } from "../api/admin_routes.ts";
import { markReviewed, readConflict, readConflicts } from "../review/log.ts";
import { listed, shown } from "../review/masking.ts";
import { labelOf } from "../review/entry.ts";
import { restore, type RestoreDeps } from "../review/restore.ts";
import { writing } from "../review/writing.ts";

const id = z.int().positive();

const listInput = z.strictObject({
  unreviewed: z.boolean(),
  table: z.string().nullable(),
  kind: z.string().nullable(),
  limit: z.int().min(1).max(10_000),
});
const showInput = z.strictObject({ id, reveal: z.boolean() });
const restoreInput = z.strictObject({
  id,
  side: z.enum(["primary", "secondary"]).nullable(),
  yes: z.boolean(),
  force: z.boolean(),
  again: z.boolean(),
});
const reviewedInput = z.strictObject({ ids: z.array(id).min(1).max(10_000) });

/** `ready`: throws while the node is still starting. */
export function conflictOperations(ready: () => RestoreDeps): AdminOperation[] {
  return [
    adminOperation("/conflicts/list", listInput, async (input) => {
      const { sql, secretOf } = ready();
      // One more than is shown, to know whether there are more.
      const entries = await readConflicts(sql, { ...input, limit: input.limit + 1 });
      return {
        conflicts: entries.slice(0, input.limit).map((entry) => listed(entry, secretOf(labelOf(entry)))),
        more: entries.length > input.limit,
      };
    }),
    adminOperation("/conflicts/show", showInput, async ({ id, reveal }) => {
      const { sql, secretOf } = ready();
      const entry = await readConflict(sql, id);
      return shown(entry, reveal ? [] : secretOf(labelOf(entry)));
    }),
    adminOperation("/conflicts/restore", restoreInput, ({ id, ...options }) => restore(ready(), id, options)),
    adminOperation("/conflicts/reviewed", reviewedInput, async ({ ids }) => {
      const reviewed = await writing(ready(), "note conflicts as reviewed", (tx) => markReviewed(tx, ids));
      return { ids, reviewed };
    }),
  ];
}
