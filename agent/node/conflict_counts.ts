// How many conflicts are logged, counted beside the looks at the database: with millions of them a count takes seconds,
// and a look that takes seconds would be a database that does not answer.
import type { Sql } from "../postgres/connect.ts";

export interface ConflictFigures {
  readonly total: number;
  readonly unreviewed: number;
  /** Unreviewed, and the losing row stands in no table. */
  readonly quarantined: number;
}

/** Counting may take so much of the time. */
const share = 0.05;
/** A count is waited for so long; then the last one holds until it is done. */
const patienceMs = 100;

export class ConflictCounts {
  #known: ConflictFigures = { total: 0, unreviewed: 0, quarantined: 0 };
  #counting: Promise<void> | null = null;
  #nextAt = 0;

  constructor(private readonly sql: Sql) {}

  /** The last count. Throws what the count threw, if it was waited for. */
  async look(): Promise<ConflictFigures> {
    if (!this.#counting && performance.now() >= this.#nextAt) {
      this.#counting = this.#count().finally(() => this.#counting = null);
    }
    if (this.#counting) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, patienceMs));
      // A failure that comes later is the next look's.
      this.#counting.catch(() => undefined);
      await Promise.race([this.#counting, late]).finally(() => clearTimeout(timer));
    }
    return this.#known;
  }

  async #count(): Promise<void> {
    const began = performance.now();
    const [row] = await this.sql<ConflictFigures[]>`
      SELECT count(*)::int AS total, count(*) FILTER (WHERE reviewed_at IS NULL)::int AS unreviewed,
        count(*) FILTER (WHERE reviewed_at IS NULL AND quarantined)::int AS quarantined FROM ha.conflict`;
    this.#known = { ...row };
    const took = performance.now() - began;
    this.#nextAt = took > patienceMs ? performance.now() + took / share : 0;
  }
}
