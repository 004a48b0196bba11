// Checks the directions of imports: which part of the house may know which. The rules are the table below.
// Reads files only; runs under bun and deno.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const base = ["base", "change"];

/** What each part may import besides itself. Parts below agent/ are its folders; `base` is the files beside agent.ts. */
const mayImport: Record<string, string[]> = {
  base: [...base, "merge"], // the config's words for policies
  change: ["base"],
  postgres: base,
  trust: base,
  wal: [...base, "postgres"],
  relay: [...base, "wal"],
  merge: ["change"],
  apply: [...base, "merge", "postgres"],
  review: [...base, "merge", "apply", "postgres"],
  role: [...base, "postgres"],
  pack: [...base, "postgres", "trust"],
  setup: [...base, "api", "pack", "trust", "postgres", "role", "wal"],
  api: [...base, "trust"],
  monitor: [...base, "postgres"],
  check: [...base, "monitor", "postgres", "trust"],
  node: [...base, ..."postgres trust wal relay merge apply review role pack setup api monitor check".split(" ")],
  agent: [...base, ..."node postgres trust wal relay merge apply review role pack setup api monitor check".split(" ")],
  cli: [...base, "agent", "node", "setup", "api", "pack", "trust", "postgres", "monitor", "review", "check"],
  mod: [
    ...base,
    ..."agent node change postgres trust wal relay merge apply review role pack setup api monitor check cli".split(" "),
  ],
};

/** Parts that decide and do no I/O: of Node's modules they may import these only. */
const pure: Record<string, string[]> = { merge: ["node:buffer"] };

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const importLine =
  /^\s*(?:import|export)\b(?:[^"';]|\n)*?\bfrom\s*["']([^"']+)["']|^\s*import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/gm;

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.name.endsWith(".ts") ? [path] : [];
  });
}

/** The part that a file belongs to; undefined for tests, benches and scripts, which may import anything. */
function partOf(path: string): string | undefined {
  const [top, second, third] = path.split(sep);
  if (top === "mod.ts") return "mod";
  if (top === "cli") return "cli";
  if (top !== "agent") return undefined;
  if (third !== undefined) return second;
  return second === "agent.ts" ? "agent" : "base";
}

function problemsOf(path: string): string[] {
  const part = partOf(path);
  const text = readFileSync(join(root, path), "utf8");
  const problems: string[] = [];
  for (const match of text.matchAll(importLine)) {
    const name = match[1] ?? match[2] ?? match[3];
    if (!name.startsWith(".")) {
      if (part && pure[part] && !pure[part].includes(name)) problems.push(`${part} is pure, but imports ${name}`);
      continue;
    }
    const target = relative(root, resolve(root, dirname(path), name));
    if (!target.endsWith(".ts") && !target.endsWith(".json") && !target.endsWith(".sql")) {
      problems.push(`imports ${name} without its extension`);
    }
    if (target.startsWith("test" + sep) && !path.startsWith("test" + sep) && !path.startsWith("bench" + sep)) {
      problems.push(`imports ${name}: nothing but tests may import tests`);
    }
    const other = partOf(target);
    if (part === undefined || other === undefined || other === part) continue;
    if (!mayImport[part]) problems.push(`is in ${part}, which is not in the table of scripts/check_imports.ts`);
    else if (!mayImport[part].includes(other)) problems.push(`imports ${name}: ${part} must not know ${other}`);
  }
  return problems.map((problem) => `${path} ${problem}`);
}

const files = ["agent", "cli", "test", "bench", "scripts"].flatMap(filesBelow);
const problems = files.flatMap(problemsOf);
for (const problem of problems) console.error(`Cannot accept an import: ${problem}`);
process.exit(problems.length ? 1 : 0);
