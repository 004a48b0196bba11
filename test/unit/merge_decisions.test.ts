// The two decisions of the merge, over every combination: what to do with a change, and which version stays.
import assert from "node:assert/strict";
import { test } from "node:test";
import { classify, type ConflictKind, type Current, type Incoming, type Role } from "../../agent/merge/classify.ts";
import { defaultPolicy, rowPolicies, type TablePolicy } from "../../agent/merge/policy.ts";
import { resolve } from "../../agent/merge/resolve.ts";

const absent: Current = { present: false };
const seen: Current = { present: true, unseen: false };
const unseen: Current = { present: true, unseen: true };

type Row = [current: Current, mayBePending: boolean, incoming: Incoming, primary: string, secondary: string];

const steps: Row[] = [
  [absent, false, "insert", "apply", "apply"],
  [absent, false, "update", "resolve update_missing", "resolve update_missing"],
  [absent, false, "delete", "nothing", "nothing"],
  [absent, true, "insert", "apply", "leave"],
  [absent, true, "update", "resolve update_deleted", "leave"],
  [absent, true, "delete", "nothing", "nothing"],
  [seen, false, "insert", "upsert", "upsert"],
  [seen, false, "update", "apply", "apply"],
  [seen, false, "delete", "apply", "apply"],
  [seen, true, "insert", "upsert", "upsert"],
  [seen, true, "update", "apply", "apply"],
  [seen, true, "delete", "apply", "apply"],
  [unseen, false, "insert", "resolve insert_exists", "leave"],
  [unseen, false, "update", "resolve update_origin_differs", "leave"],
  [unseen, false, "delete", "resolve delete_origin_differs", "leave"],
  [unseen, true, "insert", "resolve insert_exists", "leave"],
  [unseen, true, "update", "resolve update_origin_differs", "leave"],
  [unseen, true, "delete", "resolve delete_origin_differs", "leave"],
];

for (const [current, pending, incoming, ...wanted] of steps) {
  const here = !current.present ? "no row" : current.unseen ? "an unseen row" : "a row that was seen";
  test(`classify: ${incoming} meets ${here}${pending ? ", own changes unseen" : ""}`, () => {
    (["primary", "secondary"] as const).forEach((role, i) => {
      const step = classify(role, incoming, current, pending);
      assert.equal(step.do === "resolve" ? `resolve ${step.kind}` : step.do, wanted[i], role);
    });
  });
}

const policyOf = (more: Partial<TablePolicy> = {}): TablePolicy => ({ ...defaultPolicy, ...more });
const earlier = { primaryTime: 5n, secondaryTime: 4n };
const later = { primaryTime: 4n, secondaryTime: 5n };
const same = { primaryTime: 5n, secondaryTime: 5n };
const times = [earlier, later, same, { primaryTime: null, secondaryTime: 5n }, {
  primaryTime: 5n,
  secondaryTime: null,
}];

test("resolve: what does not depend on policy or time", () => {
  const always: [ConflictKind, Role][] = [["update_missing", "secondary"], ["cannot_apply", "primary"]];
  for (const [kind, winner] of always) {
    for (const rows of rowPolicies) {
      for (const versions of times) assert.equal(resolve(kind, policyOf({ rows }), versions).winner, winner, kind);
    }
  }
});

for (const kind of ["insert_exists", "update_origin_differs"] as const) {
  test(`resolve: ${kind} by the policy of rows`, () => {
    for (const versions of times) {
      const winner = (rows: TablePolicy["rows"]) => resolve(kind, policyOf({ rows }), versions).winner;
      assert.equal(winner("primary_wins"), "primary");
      assert.equal(winner("secondary_wins"), "secondary");
      for (const rows of ["last_update_wins", "merge_columns"] as const) {
        assert.equal(winner(rows), versions === later ? "secondary" : "primary");
      }
    }
  });
}

test("resolve: of two rows of one key in an append-only table the earlier one keeps it", () => {
  for (const versions of times) {
    const { winner, policy } = resolve("insert_exists", policyOf({ rows: "append_only" }), versions);
    assert.equal(winner, versions === earlier ? "secondary" : "primary");
    assert.equal(policy, "append_only");
  }
});

for (
  const [kind, updated, deleted] of [
    ["update_deleted", "secondary", "primary"],
    ["delete_origin_differs", "primary", "secondary"],
  ] as const
) {
  test(`resolve: ${kind} by the policy of deletes`, () => {
    for (const versions of times) {
      const winner = (deletes: TablePolicy["deletes"]) => resolve(kind, policyOf({ deletes }), versions).winner;
      assert.equal(winner("update_wins"), updated);
      assert.equal(winner("delete_wins"), deleted);
      assert.equal(winner("last_update_wins"), versions === later ? "secondary" : "primary");
    }
  });
}

for (const kind of ["update_exists", "multiple_unique_conflicts", "exclusion_differs"] as const) {
  test(`resolve: ${kind} by the policy of unique keys`, () => {
    for (const versions of times) {
      const winner = (unique: TablePolicy["unique"]) => resolve(kind, policyOf({ unique }), versions).winner;
      assert.equal(winner("primary_wins"), "primary");
      assert.equal(winner("secondary_wins"), "secondary");
      assert.equal(winner("last_update_wins"), versions === later ? "secondary" : "primary");
    }
  });
}

test("resolve: every verdict says why, and by which policy", () => {
  const policy = policyOf();
  assert.match(resolve("update_origin_differs", policy, later).why, /written last/);
  assert.match(resolve("insert_exists", policy, same).why, /same time/);
  assert.match(resolve("update_deleted", policy, same).why, /the row lives/);
  assert.equal(resolve("update_deleted", policy, same).policy, "update_wins");
});
