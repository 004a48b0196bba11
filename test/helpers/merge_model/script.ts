// Histories of the model as text, one step a line, so that a counterexample can be read, and kept as a test:
//   primary +3 write 1 u=2 columns=4; delete child 1; move 1 to 2    (a transaction, 3 ticks after the last)
//   secondary relay 2      primary apply 1      secondary fail 1 committed      primary restart forgets
import type { Statement } from "./application.ts";
import type { Step } from "./world.ts";

export const scriptOf = (steps: readonly Step[]): string => steps.map(lineOf).join("\n");

function lineOf(step: Step): string {
  switch (step.do) {
    case "work": {
      const { statements, time, xidGap, sub, early } = step.work;
      const odd = [early && "early", xidGap && `gap=${xidGap}`, sub && `sub=${sub}`].filter(Boolean).join(" ");
      return `${step.who} +${time} ${statements.map(textOf).join("; ")}${odd && ` | ${odd}`}`;
    }
    case "relay":
    case "apply":
      return `${step.who} ${step.do} ${step.count}`;
    case "fail":
      return `${step.who} fail ${step.count}${step.committed ? " committed" : ""}`;
    case "restart":
      return `${step.who} restart${step.forgets ? " forgets" : ""}`;
    default:
      return `${step.who} ${step.do}`;
  }
}

function textOf({ wants, table, key, to, unique, parent, columns }: Statement): string {
  const child = table === "child" ? "child " : "";
  if (wants === "truncate") return `truncate ${table}`;
  if (wants === "move") return `move ${child}${key} to ${to}`;
  const more = [unique && `u=${unique}`, parent && `p=${parent}`, columns && `columns=${columns}`].filter(Boolean);
  return [`${wants} ${child}${key}`, ...more].join(" ");
}

export function stepsOf(script: string): Step[] {
  return script.split("\n").map((line) => line.trim()).filter((line) => line !== "").map(stepOf);
}

function stepOf(line: string): Step {
  const [who, act, ...rest] = line.split(/\s+/) as ["primary" | "secondary", string, ...string[]];
  if (act.startsWith("+")) {
    const [text, odd = ""] = rest.join(" ").split(" | ");
    const number = (name: string) => Number(odd.match(new RegExp(`${name}=(\\d+)`))?.[1] ?? 0);
    const statements = text.split("; ").map(statementOf);
    const [early, xidGap, sub] = [odd.includes("early"), number("gap"), number("sub")];
    return { do: "work", who, work: { statements, time: Number(act.slice(1)), early, xidGap, sub } };
  }
  switch (act) {
    case "relay":
    case "apply":
      return { do: act, who, count: Number(rest[0]) };
    case "fail":
      return { do: act, who, count: Number(rest[0]), committed: rest[1] === "committed" };
    case "restart":
      return { do: act, who, forgets: rest[0] === "forgets" };
    case "begin":
    case "idle":
    case "note":
    case "reconnect":
      return { do: act, who };
  }
  throw new Error(`no such step: ${line}`);
}

function statementOf(text: string): Statement {
  const [wants, ...words] = text.split(" ") as [Statement["wants"], ...string[]];
  const table = words[0] === "child" ? "child" : "parent";
  const key = words[table === "child" ? 1 : 0];
  const value = (name: string) => words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1) ?? null;
  const to = words[words.indexOf("to") + 1];
  return { wants, table, key, to, unique: value("u"), parent: value("p"), columns: Number(value("columns") ?? 0) };
}
