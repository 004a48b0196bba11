// Looks after the sequences of a node that takes writes: sets right those that an application has put on the other node's
// values, tells the peer how far its own have come, and alarms where they will not last. Tells only what has moved, so
// that an idle pair comes to rest.
import { getLogger } from "@logtape/logtape";
import { sequencesPrefix } from "../change/marks.ts";
import { AgentError, reason } from "../errors.ts";
import type { Sql } from "../postgres/connect.ts";
import {
  advanceSequences,
  ensureSequences,
  isDue,
  mendSequence,
  readSequences,
  type SequenceState,
} from "../postgres/sequences.ts";
import { sequenceTrouble } from "../monitor/sequence_faults.ts";
import { guardIsOpen } from "../role/guard.ts";
import { Watch } from "./watch.ts";

const everyMs = 5000;
/** nextval waits behind whoever waits for a sequence: not for long, there is a next turn. */
const patience = { lockTimeoutMs: 200, attempts: 1 };

const log = getLogger(["hapair", "node"]);

export interface SequenceWatchDeps {
  readonly sql: Sql;
  readonly role: "primary" | "secondary";
  /** A lasting problem under a name, null when it is over. */
  readonly onTrouble: (name: string, problem: { message: string; remedy: string } | null) => void;
}

export class SequenceWatch {
  /** What was told last of each sequence, by its oid. */
  readonly #told = new Map<string, string>();
  readonly #watch: Watch;
  #failed = false;

  constructor(private readonly deps: SequenceWatchDeps) {
    this.#watch = new Watch({ everyMs, work: () => this.#look(), ended: (failure) => this.#ended(failure) });
  }

  start(): void {
    this.#watch.start();
  }

  stop(): Promise<void> {
    return this.#watch.stop();
  }

  /** Before the guard opens, with no client writing: every sequence gives out this node's values, none that the peer has told of. */
  async prepare(): Promise<void> {
    const moved = await advanceSequences(this.deps.sql);
    if (moved > 0) log.debug("{moved} sequences moved beyond the peer's", { moved });
    const changed = await ensureSequences(this.deps.sql, this.deps.role);
    if (changed.length > 0) log.info("sequences made fit: {sequences}", { sequences: changed.join(", ") });
  }

  /**
   * Tells the peer what has moved since it was last told. `whileOpen`: only if clients may write here at that moment.
   * Called without it when they just no longer may, the peer has everything.
   */
  async tell(whileOpen = false): Promise<void> {
    await this.#tell(await readSequences(this.deps.sql), whileOpen);
  }

  async #look(): Promise<void> {
    const { sql, onTrouble } = this.deps;
    // The node that takes writes is the one that knows.
    if (!await guardIsOpen(sql)) return onTrouble("sequences", null);
    let sequences = await readSequences(sql);
    const due = sequences.filter(isDue);
    const left = new Set<string>();
    for (const sequence of due) if (!await this.#mend(sequence)) left.add(sequence.oid);
    if (due.length > 0) sequences = await readSequences(sql);
    const judged = sequences.map((each) => ({ ...each, held: left.has(each.oid) && isDue(each) }));
    onTrouble("sequences", sequenceTrouble(judged));
    await this.#tell(sequences, true);
  }

  /** False for one that others hold: it is alarmed, and must not keep the rest from being mended. */
  async #mend(sequence: SequenceState): Promise<boolean> {
    const { label } = sequence;
    try {
      if (await mendSequence(this.deps.sql, sequence, patience)) log.info("sequence {label} made fit", { label });
      return true;
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      log.debug("sequence {label} is held: {why}", { label, why: reason(error) });
      return false;
    }
  }

  async #tell(sequences: readonly SequenceState[], whileOpen: boolean): Promise<void> {
    const moved = sequences.filter(({ oid, given, untouched, cycle }) =>
      !cycle && (this.#told.has(oid) ? this.#told.get(oid) !== given : !untouched)
    );
    if (moved.length === 0) return;
    const content = JSON.stringify(moved.map(({ schema, name, given }) => ({ schema, name, last: given })));
    const sent = await this.deps.sql`SELECT pg_logical_emit_message(true, ${sequencesPrefix}, ${content}::text)
      WHERE NOT ${whileOpen} OR ha.guard_is_open()`;
    if (sent.count === 0) return;
    this.#told.clear();
    for (const { oid, given } of sequences) this.#told.set(oid, given);
  }

  /** A sequence that is dropped at the very moment fails one turn: only what fails twice in a row is told. */
  #ended(failure: unknown | null): void {
    if (failure !== null && this.#failed) {
      this.deps.onTrouble("sequences", {
        message: `Cannot look after the sequences: ${reason(failure)}`,
        remedy: "see the log of PostgreSQL; it is tried again by itself",
      });
    }
    this.#failed = failure !== null;
  }
}
