// Histories that random ones were shrunk to, each with the rule of the merge without which it goes wrong: with the rule it
// ends well, without it the model must notice. Who finds a new one adds it here.
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultPolicy, type TablePolicy } from "../../agent/merge/policy.ts";
import type { Rule } from "../helpers/merge_model/batch.ts";
import { problemOf } from "../helpers/merge_model/invariants.ts";
import { stepsOf } from "../helpers/merge_model/script.ts";
import { World } from "../helpers/merge_model/world.ts";

interface Case {
  readonly policy?: Partial<TablePolicy>;
  readonly tables?: {
    readonly unique?: boolean;
    readonly references?: boolean;
    readonly large?: boolean;
    readonly impatient?: boolean;
  };
  readonly skew?: bigint;
  readonly history: string;
  readonly problem: RegExp;
}

const cases: Record<Rule, Case> = {
  "renewal": {
    history: `
      secondary +0 write 3
      primary +0 write 3
      primary relay 1
      secondary apply 1
      secondary +0 write 3`,
    problem: /^lost without a log entry/,
  },
  "renewal of merged rows": {
    policy: { rows: "merge_columns" },
    history: `
      secondary +0 write 3
      secondary +0 write 3
      secondary +0 write 3
      primary +0 write 3`,
    problem: /^lost without a log entry/,
  },
  "renewal of truncated rows": {
    history: `
      secondary +0 write 1
      primary +0 write 1
      primary relay 1
      secondary apply 1
      secondary +0 truncate parent`,
    problem: /^lost without a log entry/,
  },
  // The primary's version won, and its own application deleted it: what comes after that has nothing to do with it.
  "end of a renewal": {
    history: `
      secondary +0 write 1
      secondary relay 1
      secondary +0 delete 1
      primary +0 write 1
      primary apply 1
      primary +0 delete 1
      secondary +0 write 1
      secondary +0 write 1`,
    problem: /^a false conflict/,
  },
  "time of the own version": {
    tables: { unique: true },
    history: `
      secondary +0 write 3
      primary +1 write 2 u=1
      secondary +0 write 3 u=1 columns=3; write 1
      primary relay 1
      secondary apply 1
      primary apply 1
      secondary +0 write 3; write 1
      primary apply 1
      primary +0 write 3`,
    problem: /wins, the .* wrote last/,
  },
  "question about a refused change": {
    tables: { unique: true },
    history: `
      primary +0 write 2 u=2; write 1
      secondary +0 write 1 u=2`,
    problem: /^diverged/,
  },
  "pending deletion": {
    history: `
      secondary +1 write 2
      secondary +0 delete 2
      primary +0 write 2`,
    problem: /^diverged/,
  },
  "renewal until the winner is written": {
    tables: { unique: true },
    history: `
      primary +0 write 3; write 1
      secondary +0 write 3 u=2
      primary relay 1
      secondary apply 1
      secondary +0 write 3
      primary +0 write 2 u=2`,
    problem: /^lost without a log entry/,
  },
  "question about what is not known yet": {
    tables: { impatient: true },
    history: `
      primary +0 write 1
      secondary +1 write 1
      secondary +0 delete 1`,
    problem: /^diverged/,
  },
  // A key change: its delete is decided about, then its insert is refused, and all of it is tried again.
  "refused tries decide nothing": {
    policy: { rows: "merge_columns", deletes: "last_update_wins" },
    tables: { unique: true, large: true },
    history: `
      primary +0 write 1 u=2; write 3
      secondary +0 write 3 u=2
      primary +0 write 2; write 1
      secondary +1 write 3; move 3 to 2; write 1`,
    problem: /^lost without a log entry/,
  },
  "question about a verdict kept out": {
    tables: { unique: true },
    history: `
      secondary +0 write 1
      secondary +0 write 2 u=2
      primary +1 write 1 u=2; write 1`,
    problem: /^diverged/,
  },
  "rows asked about are left": {
    tables: { unique: true },
    history: `
      primary +0 write 1 u=1
      primary +0 write 1
      secondary +0 write 3 u=1`,
    problem: /^the secondary has to decide/,
  },
  // Two rows change places at the primary: no verdict about one finds room before that about the other.
  "room for a verdict": {
    tables: { unique: true },
    history: `
      primary +0 write 2 u=2
      primary +0 write 2 u=1 columns=3
      primary +0 write 1 u=2
      secondary +0 write 1 u=1; write 1`,
    problem: /^it never comes to rest/,
  },
  "verdict about large values": {
    policy: { rows: "secondary_wins", deletes: "delete_wins", dangling: "restore_parent" },
    tables: { unique: true, references: true, large: true },
    history: `
      secondary +0 write 1 u=2
      primary +0 write 2 u=2
      secondary +0 write child 1 p=1
      secondary +0 write child 1 columns=3; write 1
      secondary +0 move 1 to 2; write 1`,
    problem: /^diverged/,
  },
  // The row that is there now under the key is another.
  "large values of the same version": {
    tables: { large: true },
    skew: -100n,
    history: `
      secondary +0 write 1; move 1 to 3
      primary +0 write 3
      secondary +0 move 3 to 1
      secondary +0 move 1 to 2; write 1`,
    problem: /^diverged/,
  },
  "no renewal of parents": {
    policy: { dangling: "restore_parent" },
    tables: { references: true },
    skew: 100n,
    history: `
      primary +0 write 3
      primary relay 1
      secondary apply 1
      secondary +0 write child 1 p=3; write 1
      secondary +0 write 3
      primary +0 delete 3`,
    problem: /wins, the .* wrote last/,
  },
  "newer pending version": {
    history: `
      primary +0 write 1
      secondary +1 write 1
      secondary +0 write 1`,
    problem: /^diverged/,
  },
  "verdict about a pending deletion": {
    history: `
      primary +0 write 3
      secondary +1 write 3
      secondary +0 delete 3; write 1`,
    problem: /^diverged/,
  },
};

/** Others that went wrong once. */
const others: Record<string, Omit<Case, "problem">> = {
  "a merged child that is quarantined for want of its parent, and updated there meanwhile": {
    policy: { rows: "merge_columns" },
    tables: { references: true },
    history: `
      primary +0 write 2
      primary relay 1
      secondary apply 1
      secondary relay 1
      secondary +0 write child 1
      secondary +0 delete 2
      secondary relay 1
      primary apply 2
      secondary +0 write child 1
      primary +0 write child 1 p=2 columns=3
      primary +0 write child 1 columns=6; write 1`,
  },
  "a key change of a row that the other side has changed": {
    history: `
      primary +0 write 1
      primary +0 move 1 to 2
      secondary +0 write 1`,
  },
  "a key change to where the other side has inserted and deleted a row": {
    history: `
      primary +0 write 2
      secondary +2 write 1
      primary +0 move 2 to 1; write 1
      secondary +0 delete 1`,
  },
  "a row that a key change left and a truncate took away": {
    tables: { unique: true },
    history: `
      primary +0 write 3
      primary +0 move 3 to 1; write 1
      primary +0 truncate parent; write 1
      primary relay 3
      secondary +0 write 1
      secondary +0 delete 1
      secondary apply 3
      secondary +0 move 3 to 1`,
  },
  "updates without their large value that win over the primary's": {
    tables: { large: true },
    history: `
      secondary +0 write 1
      secondary +0 write 1
      secondary +0 write 1
      primary +0 write 1`,
  },
  "a row refused at the secondary, gone and come again at the primary, built upon at the secondary": {
    tables: { unique: true },
    policy: { unique: "secondary_wins", rows: "primary_wins", deletes: "delete_wins" },
    history: `
      secondary +0 write 1 u=2
      primary +0 write 3 u=2
      primary +0 delete 3
      primary +0 write 3; write 1
      primary relay 3
      secondary apply 1
      secondary apply 2
      secondary +0 write 3`,
  },
  "a row refused at the secondary and inserted there by its own application": {
    tables: { unique: true },
    policy: { unique: "primary_wins", rows: "secondary_wins" },
    history: `
      secondary +0 write 3 u=1
      primary +0 write 1 u=1
      primary relay 1
      primary +0 write 1 columns=7; write 1
      secondary apply 1
      primary note
      secondary apply 1
      secondary +0 write 1`,
  },
};

function outcomeOf({ policy, tables, skew = 0n, history }: Omit<Case, "problem">, without: readonly Rule[]) {
  const plain = { unique: false, references: false, large: false, impatient: false };
  const rules = { ...plain, ...tables, policy: { ...defaultPolicy, ...policy } };
  const world = new World(rules, skew, new Set(without));
  for (const step of stepsOf(history)) world.take(step);
  world.settle();
  return problemOf(world);
}

for (const [rule, history] of Object.entries(cases)) {
  test(`a history that needs the rule: ${rule}`, () => {
    assert.equal(outcomeOf(history, []), null);
    assert.match(outcomeOf(history, [rule as Rule]) ?? "none", history.problem);
  });
}

for (const [name, history] of Object.entries(others)) {
  test(`a history that went wrong once: ${name}`, () => assert.equal(outcomeOf(history, []), null));
}
