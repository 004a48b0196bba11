// How the quickstart speaks: chapters, steps with their time, remarks. Colours and moving text on a terminal only.
import process from "node:process";
import { styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

const out = process.stdout;
const terminal = out.isTTY === true && process.env.TERM !== "dumb";
const coloured = terminal && !process.env.NO_COLOR;

export function paint(style: Style, text: string): string {
  return coloured ? styleText(style, text, { validateStream: false }) : text;
}

export function duration(ms: number): string {
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

/** What is under way now, for an error that ends it. */
let present = "start";

export function presentStep(): string {
  return present;
}

export function chapter(title: string): void {
  out.write(`\n${paint("bold", title)}\n`);
}

function line(time: string, text: string): void {
  out.write(`${paint("cyan", time.padStart(9))}  ${text}\n`);
}

/** A step that has its time from elsewhere. */
export function timed(ms: number, text: string): void {
  line(duration(ms), text);
}

/** A remark below a step. */
export function remark(text: string): void {
  out.write(`${" ".repeat(11)}${paint("dim", text)}\n`);
}

export function plain(text = ""): void {
  out.write(text + "\n");
}

/** Does a step and tells it with its time; `told` may say more once the outcome is known. */
export async function step<T>(
  text: string,
  act: () => T | Promise<T>,
  told: (result: Awaited<T>, ms: number) => string = () => text,
): Promise<Awaited<T>> {
  present = text;
  if (terminal) out.write(`${paint("dim", `${"...".padStart(9)}  ${text}`)}`);
  const began = performance.now();
  try {
    const result = await act();
    const ms = performance.now() - began;
    if (terminal) out.write("\r\x1b[K");
    timed(ms, told(result, ms));
    return result;
  } catch (error) {
    if (terminal) out.write("\n");
    throw error;
  }
}

/** Rows below a step, in columns. */
export function table(rows: readonly (readonly string[])[]): void {
  const widths = rows[0].map((_, at) => Math.max(...rows.map((row) => row[at].length)));
  for (const row of rows) remark(row.map((cell, at) => cell.padEnd(widths[at])).join("   ").trimEnd());
}
