// Random histories of a pair that both sides write, with lags, cut links, restarts and broken commits, under every policy:
// both sides end up equal and at rest, no version is lost without an entry in the conflict log, no edit that saw the other
// is called a conflict. MERGE_MODEL_RUNS sets how many histories in all, MERGE_MODEL_SEED which.
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import fc from "fast-check";
import { deletePolicies, rowPolicies, uniquePolicies } from "../../agent/merge/policy.ts";
import type { Statement } from "../helpers/merge_model/application.ts";
import { historyOf } from "../helpers/merge_model/histories.ts";
import { problemOf } from "../helpers/merge_model/invariants.ts";
import { scriptOf } from "../helpers/merge_model/script.ts";
import type { Rules } from "../helpers/merge_model/values.ts";
import { type Step, World } from "../helpers/merge_model/world.ts";

/** A kind of tables, and what their applications do. */
interface Family {
  readonly wants: readonly Statement["wants"][];
  readonly rows: readonly (typeof rowPolicies)[number][];
  readonly unique: boolean;
  readonly references: boolean;
  /** Never a question for the sake of speed: what has come to a node is to be seen there. */
  readonly patient?: boolean;
}

const rowsOfAnyKind = rowPolicies.filter((policy) => policy !== "append_only");
const edits = ["write", "write", "write", "delete"] as const;
const plain = { rows: rowsOfAnyKind, unique: false, references: false };

const families: Record<string, Family> = {
  "rows": { ...plain, wants: edits },
  "rows and columns that are never deleted": { ...plain, wants: ["write"] },
  "key changes": { ...plain, wants: [...edits, "move"] },
  "truncates": { ...plain, wants: [...edits, ...edits, "truncate"] },
  "unique values": { ...plain, wants: edits, unique: true },
  "append-only tables": { ...plain, rows: ["append_only"], wants: ["insert"] },
  "append-only tables with unique values": { ...plain, rows: ["append_only"], wants: ["insert"], unique: true },
  "parents and children": { ...plain, wants: edits, references: true },
  "all at once": { ...plain, wants: [...edits, ...edits, "move", "truncate"], unique: true, references: true },
  "all at once, without children": { ...plain, wants: [...edits, ...edits, "move", "truncate"], unique: true },
};

const rulesOf = ({ rows, unique, references, patient }: Family): fc.Arbitrary<Rules> =>
  fc.record({
    policy: fc.record({
      rows: fc.constantFrom(...rows),
      deletes: fc.constantFrom(...deletePolicies),
      unique: fc.constantFrom(...uniquePolicies),
      dangling: fc.constantFrom("quarantine" as const, "restore_parent" as const),
    }),
    unique: fc.constant(unique),
    references: fc.constant(references),
    large: fc.boolean(),
    impatient: patient ? fc.constant(false) : fc.boolean(),
  });

/** The secondary's clock against the primary's: level, a little off, further than any history is long. */
const skews = fc.constantFrom(0n, 0n, 30n, -30n, 120_000n, -120_000n);

const inBun = "bun" in process.versions;
const runs = Number(process.env.MERGE_MODEL_RUNS ?? (inBun ? 100_000 : 6_000));
const seed = Number(process.env.MERGE_MODEL_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.log(`merge model: MERGE_MODEL_RUNS=${runs} MERGE_MODEL_SEED=${seed}`);

const timeout = 1_200_000;

function check(
  family: Family,
  numRuns: number,
  run: (world: World, steps: readonly Step[]) => string | null,
): void {
  const keys = family.references ? ["1", "2"] : ["1", "2", "3"];
  const histories = historyOf(family, { keys, wants: family.wants, statements: 3 });
  fc.assert(
    fc.property(rulesOf(family), skews, histories, (rules, skew, steps) => {
      const world = new World(rules, skew);
      const problem = run(world, steps);
      if (problem) assert.fail(`${problem}\n${JSON.stringify(rules)} skew ${skew}\n${scriptOf(steps)}`);
    }),
    { numRuns, seed },
  );
}

for (const [name, family] of Object.entries(families)) {
  test(`any history converges and loses nothing: ${name}`, { timeout }, () => {
    let conflicts = 0;
    const share = Math.ceil(runs / Object.keys(families).length);
    check(family, share, (world, steps) => {
      for (const step of steps) world.take(step);
      world.settle();
      conflicts += world.ledger.entries.length;
      return problemOf(world);
    });
    assert.ok(conflicts > share / 3, `the histories have conflicts: ${conflicts}`);
  });

  test(`who writes after having seen all of the other's is in no conflict: ${name}`, { timeout }, () => {
    check({ ...family, patient: true }, Math.ceil(runs / 200), (world, steps) => {
      for (const step of steps) {
        if (step.do === "work") world.catchUp(step.who === "primary" ? world.primary : world.secondary);
        world.take(step);
      }
      world.settle();
      const [conflict] = world.ledger.entries;
      return problemOf(world) ?? (conflict ? `a false conflict: ${conflict.kind}` : null);
    });
  });
}
