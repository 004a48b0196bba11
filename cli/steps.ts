// Shows the steps of a long command: one line each with its time, and a moving figure where somebody watches.
import process from "node:process";
import { Steps } from "../agent/setup/steps.ts";
import type { Context } from "./context.ts";

export function watchSteps(context: Context): Steps {
  const watched = !context.json && process.stderr.isTTY === true;
  let shown = 0;
  return new Steps(
    ({ name, ms, detail }) => {
      if (watched && shown) process.stderr.write("\r\x1b[K");
      shown = 0;
      context.say(`${(ms / 1000).toFixed(1).padStart(6)} s  ${name}${detail && `: ${detail}`}`);
    },
    (name, bytes, total) => {
      if (!watched || Date.now() - shown < 200) return;
      shown = Date.now();
      const share = total > 0 ? ` of about ${Math.round(total / 1e6)}` : "";
      process.stderr.write(`\r\x1b[K          ${name}: ${Math.round(bytes / 1e6)}${share} MB`);
    },
  );
}
