// Random histories for the model: what two applications and a bad link may do, as arbitraries of fast-check.
import fc from "fast-check";
import type { Statement } from "./application.ts";
import type { Rules } from "./values.ts";
import type { Step } from "./world.ts";

const who = fc.constantFrom("primary" as const, "secondary" as const);
const gap = fc.oneof({ weight: 9, arbitrary: fc.nat(2) }, { weight: 1, arbitrary: fc.nat(9000) });
const few = fc.integer({ min: 1, max: 5 });

export interface Habits {
  readonly keys: readonly string[];
  readonly wants: readonly Statement["wants"][];
  readonly statements: number;
}

function statementOf({ references }: Pick<Rules, "references">, { keys, wants }: Habits): fc.Arbitrary<Statement> {
  return fc.record({
    table: references
      ? fc.constantFrom("parent" as const, "child" as const, "child" as const)
      : fc.constant("parent" as const),
    key: fc.constantFrom(...keys),
    wants: fc.constantFrom(...wants),
    columns: fc.nat(7),
    unique: fc.constantFrom(null, "1", "2"),
    parent: fc.constantFrom(null, ...keys),
    to: fc.constantFrom(...keys),
  });
}

export function historyOf(rules: Pick<Rules, "references">, habits: Habits, most = 50): fc.Arbitrary<Step[]> {
  const work: fc.Arbitrary<Step> = fc.record({
    do: fc.constant("work" as const),
    who,
    work: fc.record({
      statements: fc.array(statementOf(rules, habits), { minLength: 1, maxLength: habits.statements }),
      xidGap: gap,
      sub: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: gap }),
      early: fc.boolean(),
      time: fc.nat(20),
    }),
  });
  const flow: fc.Arbitrary<Step> = fc.record({
    do: fc.constantFrom("relay" as const, "apply" as const),
    who,
    count: few,
  });
  const rest: fc.Arbitrary<Step> = fc.record({
    do: fc.constantFrom("idle" as const, "note" as const, "begin" as const),
    who,
  });
  const cut: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ do: fc.constant("reconnect" as const), who }),
    fc.record({ do: fc.constant("restart" as const), who, forgets: fc.boolean() }),
    fc.record({ do: fc.constant("fail" as const), who, count: few, committed: fc.boolean() }),
  );
  return fc.array(
    fc.oneof(
      { weight: 8, arbitrary: work },
      { weight: 10, arbitrary: flow },
      { weight: 2, arbitrary: rest },
      { weight: 1, arbitrary: cut },
    ),
    { maxLength: most, size: "max" },
  );
}
