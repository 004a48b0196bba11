// Something that is asked for before it is there: the admin API listens while the node is still coming up.
import { UnreachableError } from "../errors.ts";

export class Later<T> {
  #make: (() => T) | null = null;

  /** `doing`: what nobody can do until then, e.g. "show the status". */
  constructor(private readonly doing: string) {}

  is(make: () => T): void {
    this.#make = make;
  }

  /** Throws UnreachableError until `is` was called. */
  readonly get = (): T => {
    if (this.#make) return this.#make();
    throw new UnreachableError(`Cannot ${this.doing}: the agent is still starting`, "try again in a moment");
  };
}
