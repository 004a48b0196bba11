// ARCHITECTURE.md shows the state machine as the table is. Reads that one file.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { diagrams } from "../../agent/role/diagram.ts";

test("the diagrams in ARCHITECTURE.md are those of the table", () => {
  const text = readFileSync(new URL("../../ARCHITECTURE.md", import.meta.url), "utf8");
  const shown = /<!-- diagrams: from agent\/role\/diagram\.ts -->\n\n([^]*?)\n\n<!-- diagrams: end -->/.exec(text)?.[1];
  assert.equal(shown, diagrams(), "put what diagrams() of agent/role/diagram.ts gives between the two marks");
});
