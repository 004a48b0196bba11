// Runs the gate and the tests, each runner in a process of its own, and adds up what the runners themselves counted.
// A runner that dies or runs nothing counts as a failure. The last line printed is `N passed, N failed`.
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { processesOf, sendSignal } from "./helpers/processes.ts";

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const bin = (name: string) => join(root, "node_modules", ".bin", name);
const total: Count = { passed: 0, failed: 0, skipped: 0 };
/** What failed, said once more before the last line: the end is what is read first. */
const failures: string[] = [];
const sources = ["agent", "cli", "test", "bench", "scripts", "mod.ts"].filter((path) => existsSync(join(root, path)));

/** Ends what is running, each a command's group and what it left in its folder. */
const running = new Map<number, string>();
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  process.on(signal, () => {
    for (const [pid, folder] of running) {
      sendSignal(-pid, "SIGKILL");
      for (const { pid } of processesOf(folder)) sendSignal(pid, "SIGKILL");
    }
    console.log(`Ended by ${signal}`);
    process.exit(code);
  });
}

/** Runs a command in its own process group and temporary folder; what it leaves running is ended. */
async function run(command: string[], deadlineMs: number) {
  const folder = mkdtempSync(join(tmpdir(), "hat-"));
  chmodSync(folder, 0o755);
  const started = performance.now();
  const child = spawn(command[0], command.slice(1), {
    cwd: root,
    detached: true,
    env: { ...process.env, NO_COLOR: "1", TMPDIR: folder, TEST_CACHE_DIR: tmpdir() },
    stdio: ["ignore", "pipe", "pipe"],
  });
  if (child.pid !== undefined) running.set(child.pid, folder);
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  const endGroup = () => child.pid !== undefined && sendSignal(-child.pid, "SIGKILL");
  const timer = setTimeout(() => {
    output += `\nEnded after ${deadlineMs / 1000} s without an end of its own\n`;
    endGroup();
  }, deadlineMs);
  const code = await new Promise<number>((done) => {
    child.on("error", (error) => {
      output += String(error);
      done(127);
    });
    child.on("exit", (code) => setTimeout(() => done(code ?? 1), 50));
  });
  clearTimeout(timer);
  if (child.pid !== undefined) running.delete(child.pid);
  for (const { pid } of processesOf(folder)) sendSignal(pid, "SIGKILL");
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  return { code, output, seconds: (performance.now() - started) / 1000 };
}

/** Reads bun's and deno's closing lines. */
function countOf(output: string): Count {
  const last = (pattern: RegExp) => Number([...output.matchAll(pattern)].at(-1)?.[1] ?? 0);
  const deno = [...output.matchAll(/\| (\d+) passed.*? \| (\d+) failed(?: \(.*?\))?(?: \| (\d+) ignored)?/g)].at(-1);
  if (deno) return { passed: Number(deno[1]), failed: Number(deno[2]), skipped: Number(deno[3] ?? 0) };
  return {
    passed: last(/^ *(\d+) pass$/gm),
    failed: last(/^ *(\d+) fail$/gm),
    skipped: last(/^ *(\d+) (?:skip|todo)$/gm),
  };
}

async function check(name: string, command: string[]): Promise<void> {
  const { code, output, seconds } = await run(command, 10 * 60_000);
  console.log(`${code === 0 ? "ok  " : "FAIL"} ${name} (${seconds.toFixed(1)} s)`);
  if (code === 0) return;
  console.log(output);
  failures.push(name);
  total.failed++;
}

async function runTests(name: string, command: string[], deadlineMs: number): Promise<void> {
  const { code, output, seconds } = await run(command, deadlineMs);
  const count = countOf(output);
  const ran = count.passed + count.failed + count.skipped;
  if (count.failed === 0 && (code !== 0 || ran === 0)) {
    count.failed = 1;
    console.log(ran === 0 ? `${name} ran no test, exit code ${code}` : `${name} died with exit code ${code}`);
  }
  const figures = `${count.passed} passed, ${count.failed} failed${count.skipped ? `, ${count.skipped} skipped` : ""}`;
  console.log(`${count.failed ? "FAIL" : "ok  "} ${name}: ${figures} (${seconds.toFixed(1)} s)`);
  if (count.failed) {
    console.log(output);
    const errors = [...output.matchAll(/^(?:\(fail\)|error:) .*$/gm)].map(([line]) => line.slice(0, 600));
    failures.push([name, ...new Set(errors)].join("\n  "));
  }
  total.passed += count.passed;
  total.failed += count.failed;
  total.skipped += count.skipped;
}

function testFiles(folder: string, names: string[]): string[] {
  const path = join(root, "test", folder);
  if (!existsSync(path)) return [];
  const files = readdirSync(path).filter((file) => file.endsWith(".test.ts")).sort();
  return files.filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
    .map((file) => `./test/${folder}/${file}`);
}

async function inTurn<T>(items: T[], atOnce: number, act: (item: T) => Promise<void>): Promise<void> {
  const waiting = [...items];
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await act(item);
  }));
}

const bunTest = [bin("bun"), "test", "--timeout", "1200000"];
const denoTest = [bin("deno"), "test", "-A", "--no-check", "--quiet"];

const parts: Record<string, (names: string[]) => Promise<void>> = {
  async gate() {
    await check("format", [bin("deno"), "fmt", "--check"]);
    await check("lint", [bin("deno"), "lint"]);
    await check("types", [bin("deno"), "check", ...sources]);
    await check("import directions", [bin("bun"), "scripts/check_imports.ts"]);
    await check("length of files", [bin("bun"), "scripts/check_length.ts"]);
  },
  async unit(names) {
    const files = testFiles("unit", names);
    if (!files.length) return nothing("unit", names);
    await runTests("unit tests under bun", [...bunTest, ...files], 10 * 60_000);
    await runTests("unit tests under deno", [...denoTest, ...files], 10 * 60_000);
  },
  async pg(names) {
    const files = testFiles("pg", names);
    if (!files.length) return nothing("pg", names);
    await inTurn(files, 2, (file) => runTests(file, [...bunTest, file], 15 * 60_000));
  },
  async pair(names) {
    const files = testFiles("pair", names);
    if (!files.length) return nothing("pair", names);
    await check("build of dist/agent", ["./scripts/build"]);
    await inTurn(files, 2, (file) => runTests(file, [...bunTest, file], 20 * 60_000));
  },
};

function nothing(part: string, names: string[]): void {
  console.log(`FAIL test/${part} has no test file${names.length ? ` with ${names.join(" or ")} in its name` : ""}`);
  failures.push(`test/${part}`);
  total.failed++;
}

const [part, ...names] = process.argv.slice(2);
if (part !== undefined && !parts[part]) {
  console.error(`Cannot run tests: there is no part "${part}"`);
  console.error(`Try: scripts/test [${Object.keys(parts).join("|")} [NAME...]]`);
  process.exit(2);
}
for (const name of part ? [part] : Object.keys(parts)) await parts[name](names);
for (const failure of failures) console.log(`FAIL ${failure}`);
console.log(
  `${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ""}`,
);
process.exit(total.failed ? 1 : 0);
