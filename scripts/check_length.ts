// Checks that no source file is over 400 lines: a longer one has more than one reason to change.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const limit = 400;
const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
let tooLong = 0;
for (const folder of ["agent", "cli", "test", "bench", "scripts"]) {
  for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith(".ts")) continue;
    const path = join(entry.parentPath, entry.name);
    const lines = readFileSync(path, "utf8").split("\n").length - 1;
    if (lines <= limit) continue;
    tooLong++;
    console.error(`Cannot accept ${path.slice(root.length + 1)}: ${lines} lines, and ${limit} are allowed`);
  }
}
process.exit(tooLong ? 1 : 0);
