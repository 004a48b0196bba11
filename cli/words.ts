// What several commands print alike: counted things, sizes, aligned tables. Makes text; prints nothing.

export const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

/** `1.5 MB`; `smallest`: the word for a size below 1 kB. */
export function bytes(n: number, smallest = "B"): string {
  const units = [smallest, "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; n >= 1000 && at < units.length - 1; at++) n /= 1000;
  return `${at === 0 ? n : n.toFixed(1)} ${units[at]}`;
}

/** The heads and then the rows, a line each, in columns. */
export function aligned(rows: readonly (readonly string[])[], heads: readonly string[]): string[] {
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i].length)));
  return [heads, ...rows].map((cells) => cells.map((cell, i) => cell.padEnd(widths[i])).join("  "));
}
