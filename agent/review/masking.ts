// Hides the values of secret columns in what is listed and shown. Pure. A NULL stays to be seen, a value never, not its
// length either.
import { type ConflictEntry, type ConflictLine, type ConflictView, differences, type Image } from "./entry.ts";

export const mask = "********";

function maskImage(image: Image | null, secret: readonly string[]): Image | null {
  if (image === null) return null;
  const shown = Object.entries(image).map(([name, value]) =>
    [name, value !== null && secret.includes(name) ? mask : value] as const
  );
  return Object.fromEntries(shown);
}

/** A text of the server's that may quote secret values of these rows. */
export function maskText(text: string, rows: readonly (Image | null)[], secret: readonly string[]): string {
  const values = rows.flatMap((row) => secret.map((name) => row?.[name])).filter((value) => !!value) as string[];
  // Longer ones first: a value may be a piece of another.
  const inTurn = [...new Set(values)].sort((a, b) => b.length - a.length);
  return inTurn.reduce((shown, value) => shown.replaceAll(value, mask), text);
}

function maskLine<T extends ConflictLine>(line: T, entry: ConflictEntry, secret: readonly string[]): T {
  const rows = [entry.primary_row, entry.secondary_row, entry.key];
  return {
    ...line,
    key: maskImage(line.key, secret),
    why: line.why === null ? null : maskText(line.why, rows, secret),
  };
}

/** An entry as a listing shows it: without the rows. */
export function listed(entry: ConflictEntry, secret: readonly string[]): ConflictLine {
  const { id, at, kind, schema, table, key, winner, policy, why, logged_by, quarantined, reviewed_at, restored_at } =
    entry;
  const line = { id, at, kind, schema, table, key, winner, policy, why };
  return maskLine({ ...line, logged_by, quarantined, reviewed_at, restored_at }, entry, secret);
}

/** An entry as it is shown whole. */
export function shown(entry: ConflictEntry, secret: readonly string[]): ConflictView {
  const { primary_row, secondary_row, key } = entry;
  const there = Object.keys({ ...key, ...primary_row, ...secondary_row });
  return {
    ...maskLine(entry, entry, secret),
    primary_row: maskImage(primary_row, secret),
    secondary_row: maskImage(secondary_row, secret),
    differs: differences(primary_row, secondary_row),
    masked: secret.filter((name) => there.includes(name)),
  };
}
