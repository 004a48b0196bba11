// Conflicts as text for people: a table of many, and one whole, both versions side by side. Pure. A value may hold
// anything: what a terminal would obey is shown as an escape.
import { styleText } from "node:util";
import { type ConflictLine, type ConflictView, type Image, labelOf, outcomeOf } from "../agent/review/entry.ts";
import { aligned } from "./words.ts";

type Style = Parameters<typeof styleText>[0];
type Paint = (style: Style, text: string) => string;

const painter = (colours: boolean): Paint => (style, text) =>
  colours ? styleText(style, text, { validateStream: false }) : text;

/** Longer keys and values are cut here; --json has them whole. */
const widest = { key: 40, value: 60 };

/** One line for each conflict, aligned. */
export function renderList(conflicts: readonly ConflictLine[], more: boolean, colours: boolean): string {
  if (conflicts.length === 0) return "No conflicts.\n";
  const paint = painter(colours);
  const heads = ["TIME", "ID", "KIND", "TABLE", "KEY", "WINNER", "LOSER", "WHY"];
  const rows = conflicts.map((each) => [
    time(each.at),
    String(each.id),
    each.kind,
    printable(labelOf(each)),
    keyText(each.key),
    each.winner,
    outcomeOf(each),
    printable(each.why ?? ""),
  ]);
  const [head, ...lines] = aligned(rows, heads).map((line) => line.trimEnd());
  const text = lines.map((line, i) => outcomeOf(conflicts[i]) === "quarantined" ? paint("yellow", line) : line);
  const rest = more ? ["", "There are more: see --limit."] : [];
  return [paint("bold", head), ...text, ...rest].map((each) => each + "\n").join("");
}

/** One conflict: what is known of it, then both versions by column; `*` marks what differs. */
export function renderConflict(view: ConflictView, colours: boolean): string {
  const paint = painter(colours);
  const facts: [string, string][] = [
    ["conflict", paint("bold", `${view.id}  ${view.kind}`) + `  ${printable(labelOf(view))}`],
    ["key", keyText(view.key)],
    ["decided", `${time(view.at)}${view.logged_by ? ` by the ${view.logged_by}` : ""}`],
    ["winner", `${view.winner}${view.policy ? `, policy ${view.policy}` : ""}`],
    ["why", printable(view.why ?? "?")],
    ["loser", outcomeText(view)],
  ];
  const { primary_row: primary, secondary_row: secondary } = view;
  const columns = Object.keys({ ...primary, ...secondary });
  const table: [string, string, string][] = [
    ["", "PRIMARY", "SECONDARY"],
    ["committed", time(view.primary_commit_at), time(view.secondary_commit_at)],
    ["LSN", view.primary_lsn ?? "-", view.secondary_lsn ?? "-"],
    ...primary && secondary ? [] : [["row", there(primary), there(secondary)] as [string, string, string]],
    ...columns.map((name): [string, string, string] => [
      printable(name),
      valueText(primary, name),
      valueText(secondary, name),
    ]),
  ];
  const width = Math.max(...facts.map(([label]) => label.length), ...table.map(([label]) => label.length));
  const left = Math.max(...table.map(([, text]) => text.length));
  const lines = [
    ...facts.map(([label, text]) => `  ${label.padEnd(width)}  ${text}`),
    "",
    ...table.map(([label, one, other], i) => {
      const differs = i >= table.length - columns.length &&
        view.differs.includes(columns[i - (table.length - columns.length)]);
      const line = `${differs ? "*" : " "} ${label.padEnd(width)}  ${one.padEnd(left)}  ${other}`.trimEnd();
      return differs ? paint("yellow", line) : i === 0 ? paint("bold", line) : line;
    }),
    ...view.masked.length > 0 ? ["", `  not shown: ${view.masked.map(printable).join(", ")} (see --reveal)`] : [],
  ];
  return lines.map((line) => line.trimEnd() + "\n").join("");
}

function outcomeText(view: ConflictView): string {
  switch (outcomeOf(view)) {
    case "restored":
      return `restored at ${time(view.restored_at)}`;
    case "reviewed":
      return `reviewed at ${time(view.reviewed_at)}${view.quarantined ? "; it stands in no table" : ""}`;
    case "quarantined":
      return `stands in no table: agent conflicts restore ${view.id} puts it back`;
    case "overruled":
      return `overruled: agent conflicts restore ${view.id} puts it back`;
    case "kept":
      return "something of both versions stands";
  }
}

const time = (iso: string | null): string =>
  iso === null ? "-" : iso.replace("T", " ").replace(/\.(\d{3})\d*Z$/, ".$1Z");

const there = (row: Image | null): string => row === null ? "(no row)" : "(row)";

function valueText(row: Image | null, name: string): string {
  if (row === null) return "-";
  if (!(name in row)) return "(not on record)";
  const value = row[name];
  return value === null ? "NULL" : cut(printable(value), widest.value);
}

export function keyText(key: Image | null): string {
  const parts = Object.entries(key ?? {}).map(([name, value]) => `${printable(name)}=${printable(value ?? "NULL")}`);
  return parts.length === 0 ? "-" : cut(parts.join(" "), widest.key);
}

const cut = (text: string, width: number): string => text.length > width ? `${text.slice(0, width - 1)}…` : text;

/** Control characters, and those that turn the direction of writing, as escapes. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => {
    const known = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[char];
    return known ?? `\\u{${char.codePointAt(0)!.toString(16)}}`;
  });
}
