// Shows the steps of a long command: a line each with its time, and how far the running one is: a moving line where
// somebody watches, a line now and then in a log. Nothing with --json.
import process from "node:process";
import { Steps } from "../agent/setup/steps.ts";
import type { Context } from "./context.ts";
import { Pace, progressText } from "./progress.ts";

const indent = " ".repeat(10);
const watchedMs = 200;
const loggedMs = 10_000;

export function watchSteps(context: Context): Steps {
  const watched = process.stderr.isTTY === true;
  let moving = false;
  let current: { name: string; pace: Pace; shown: number } | null = null;
  const line = (text: string) => {
    process.stderr.write(watched ? `\r\x1b[K${indent}${text}` : `${indent}${text}\n`);
    moving = watched;
  };
  const clear = () => {
    if (moving) process.stderr.write("\r\x1b[K");
    moving = false;
  };
  return new Steps(
    ({ name, ms, detail }) => {
      clear();
      current = null;
      context.say(`${(ms / 1000).toFixed(1).padStart(6)} s  ${name}${detail && `: ${detail}`}`);
    },
    (name, bytes, total) => {
      if (context.json) return;
      const now = performance.now();
      // In a log the first line comes when the step turns out to be a long one.
      if (current?.name !== name) {
        current = { name, pace: new Pace(), shown: watched ? 0 : now };
        current.pace.see(now, bytes);
      }
      if (now - current.shown < (watched ? watchedMs : loggedMs)) return;
      current.shown = now;
      line(`${name}: ${progressText(bytes, total, current.pace.see(now, bytes))}`);
    },
    (text) => {
      if (context.json) return;
      clear();
      process.stderr.write(`${indent}${text}\n`);
    },
  );
}
