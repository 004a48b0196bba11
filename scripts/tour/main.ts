// The quickstart: makes a pair in a temporary folder, tells its story, and stops and removes all of it, whatever happens.
// With --keep a pair that went through the whole story stays.
import process from "node:process";
import { keepPair } from "./keep.ts";
import { tellStory } from "./story.ts";
import { duration, paint, plain, presentStep } from "./tell.ts";
import { Tour } from "./tour.ts";

const keep = process.argv.includes("--keep");
const began = performance.now();
const tour = new Tour();

const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => reject(new Interrupted(signal)));
  }
});

class Interrupted extends Error {
  constructor(readonly signal: "SIGINT" | "SIGTERM" | "SIGHUP") {
    super(`interrupted by ${signal}`);
  }
}

async function run(): Promise<number> {
  try {
    await Promise.race([tellStory(tour), interrupted]);
    if (keep) {
      await keepPair(tour);
      return 0;
    }
    await tour.close();
    plain(`\n${paint("bold", `Done in ${duration(performance.now() - began)}.`)} All is stopped, its folder removed.`);
    plain("Again, to look around in it: ./scripts/quickstart --keep. With two real servers: README.md");
    return 0;
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    const logs = error instanceof Interrupted ? [] : tour.lastLogs();
    const left = await tour.close().then(() => "", (problem: Error) => `, but: ${problem.message}`);
    console.error(`\nCannot finish the quickstart: ${presentStep()}: ${what}`);
    for (const log of logs) console.error(log);
    console.error(`All that it started was stopped, and its folder removed${left}.`);
    if (error instanceof Interrupted) return error.signal === "SIGINT" ? 130 : 143;
    console.error("Try: the same again; if it fails at the same place, report it with what is above");
    return 1;
  }
}

process.exit(await run());
