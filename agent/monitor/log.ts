// Logging to standard error, as text for people or JSON for machines. Every logger below "hapair" ends here.
// Standard output is left to the commands' own answers.
import process from "node:process";
import {
  configure,
  getJsonLinesFormatter,
  getTextFormatter,
  type LogLevel,
  type LogRecord,
  reset,
  type TextFormatter,
} from "@logtape/logtape";

export type LogFormat = "text" | "json";

export interface LogOptions {
  readonly format: LogFormat;
  readonly level?: LogLevel;
  /** Where lines go; standard error if left out. */
  readonly write?: (line: string) => void;
}

/** Sets logging up; once more replaces it. */
export async function startLog(
  { format, level = "info", write = (line) => void process.stderr.write(line) }: LogOptions,
): Promise<void> {
  const formatter = format === "json" ? jsonLines : text;
  await configure({
    reset: true,
    sinks: { lines: (record: LogRecord) => write(formatter(record)) },
    loggers: [
      { category: "hapair", sinks: ["lines"], lowestLevel: level },
      // The library's own voice is only worth hearing when something is wrong with it.
      { category: ["logtape", "meta"], sinks: ["lines"], lowestLevel: "error" },
    ],
  });
}

export function stopLog(): Promise<void> {
  return reset();
}

const jsonLines: TextFormatter = getJsonLinesFormatter({ properties: "flatten", categorySeparator: "." });

const text: TextFormatter = getTextFormatter({
  timestamp: "rfc3339",
  level: "FULL",
  category: (names) => names.slice(1).join("."),
  // Bare: a name in a sentence needs no quotes.
  value: (value, inspect) => typeof value === "string" ? value : inspect(value),
  format: ({ timestamp, level, category, message }) => `${timestamp} ${level.padEnd(7)} ${category}: ${message}`,
});
