// What is wrong at this node right now, by name, with since when and what to do. Log lines come from changes only.
import { getLogger } from "@logtape/logtape";

export interface Problem {
  readonly message: string;
  readonly remedy: string;
  /** Left out, it is an error. */
  readonly severity?: "warning" | "error";
}

export interface Trouble extends Problem {
  readonly name: string;
  readonly since: Date;
}

const log = getLogger(["hapair", "node"]);

export class Troubles {
  private readonly known = new Map<string, Trouble>();

  /** Sets or, with null, ends the trouble of that name. The same message again changes nothing. */
  set(name: string, problem: Problem | null): void {
    const before = this.known.get(name);
    if (!problem) {
      if (this.known.delete(name)) log.info("over: {message}", { message: before!.message });
      return;
    }
    if (before?.message === problem.message) return;
    this.known.set(name, { name, since: before?.since ?? new Date(), ...problem });
    log.warn("{message}. Try: {remedy}", { ...problem });
  }

  list(): Trouble[] {
    return [...this.known.values()];
  }
}
