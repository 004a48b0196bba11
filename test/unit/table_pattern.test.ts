// Patterns of table names: what they name, on every runtime alike, and that none takes for ever.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hasWildcard, namesTable } from "../../agent/table_pattern.ts";

const cases: [pattern: string, label: string, names: boolean][] = [
  ["vault.audit", "vault.audit", true],
  ["vault.audit", "vault.audit_2030", false],
  ["vault.audit*", "vault.audit", true],
  ["vault.audit*", "vault.audit_2030", true],
  ["vault.*", "public.audit", false],
  ["*.audit", "vault.audit", true],
  ["*.audit", "vault.audit.audit", true],
  ["*", "vault.audit", true],
  ["", "vault.audit", false],
  ["vault.a?dit", "vault.audit", true],
  ["vault.a?dit", "vault.adit", false],
  ["vault.?", "vault.🔑", true],
  // What a path or a regular expression would take for more than a letter of a name.
  ["vault.*", "vault.a/b", true],
  ["vault.?", "vault./", true],
  ["vault.*", "vault..hidden", true],
  ["*.x[1]", "a.x[1]", true],
  ["*.x[1]", "a.x1", false],
  ["a.{b,c}", "a.{b,c}", true],
  ["a.{b,c}", "a.b", false],
  ["a.+(b)", "a.bb", false],
  ["a.b+", "a.bb", false],
  ["a.b\\*", "a.b\\c", true],
  ["a.b.c", "a.bxc", false],
  ["A.b", "a.b", false],
];
for (const [pattern, label, names] of cases) {
  test(`"${pattern}" ${names ? "names" : "does not name"} ${label}`, () => {
    assert.equal(namesTable(pattern, label), names);
  });
}

test("what is a pattern, and what a name", () => {
  for (const pattern of ["a.*", "?.b", "*"]) assert.ok(hasWildcard(pattern), pattern);
  for (const name of ["a.b", "a.x[1]", "a.{b}", ""]) assert.ok(!hasWildcard(name), name);
});

test("the same as the plain definition of it says", () => {
  // A star takes nothing, or a letter and may take another.
  const plain = (pattern: string, label: string): boolean => {
    if (pattern === "") return label === "";
    if (pattern[0] === "*") return plain(pattern.slice(1), label) || (label !== "" && plain(pattern, label.slice(1)));
    return label !== "" && (pattern[0] === "?" || pattern[0] === label[0]) && plain(pattern.slice(1), label.slice(1));
  };
  const text = (letters: string, maxLength: number) => fc.string({ unit: fc.constantFrom(...letters), maxLength });
  let named = 0;
  fc.assert(
    fc.property(text("ab*?", 8), text("ab", 10), (pattern, label) => {
      const expected = plain(pattern, label);
      if (expected) named++;
      assert.equal(namesTable(pattern, label), expected);
    }),
    { numRuns: 5000 },
  );
  assert.ok(named > 100, `only ${named} of them matched`);
});

test("no pattern takes for ever", () => {
  // A matcher that tries every star again needs more steps than there are atoms; here the runner's deadline would show it.
  assert.equal(namesTable(`${"*a".repeat(60)}*b`, "a".repeat(600)), false);
  assert.equal(namesTable(`${"*".repeat(3000)}b`, "a".repeat(600)), false);
  assert.equal(namesTable("{1..99999999}", "vault.audit"), false);
});
