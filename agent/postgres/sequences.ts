// Odd values of every user sequence at the primary, even ones at the secondary, so that both may give out new ones.
// Never lets a value come again that was given out. The rule itself is in schema/003_sequences.ts, and what the peer told
// of its own sequences in schema/007_sequence_positions.ts.
import { RefusedError } from "../errors.ts";
import type { Sql } from "./connect.ts";
import { type LockPatience, withLock } from "./locks.ts";

/** A sequence as it is now; numbers as PostgreSQL writes them. */
export interface SequenceState {
  readonly oid: string;
  readonly schema: string;
  readonly name: string;
  /** Quoted, with its schema. */
  readonly label: string;
  /** Between two values of this node, negative where it descends. */
  readonly increment: string;
  readonly min: string;
  readonly max: string;
  readonly cycle: boolean;
  /** The last value that is taken; beyond the range where none is. */
  readonly given: string;
  /** What nextval gives, if it is in the range. */
  readonly upcoming: string;
  /** Nothing was ever taken from it. */
  readonly untouched: boolean;
  /** The most that the column takes to which it belongs. */
  readonly columnMax: string | null;
  /** It gives out this node's values, and begins anew with one of them. */
  readonly fits: boolean;
  /** It begins anew with a value of the other node's. */
  readonly cycleOff: boolean;
  /** Its increment cannot be doubled. */
  readonly tooLarge: boolean;
  /** The peer has told of its own one, and this one has yet to be looked at for it. */
  readonly told: boolean;
}

/** Every sequence of the user's, and that of the conflict log: one query, without any lock that a writer notices. */
export async function readSequences(sql: Sql): Promise<SequenceState[]> {
  const rows = await sql<SequenceState[]>`
    SELECT s.sequence::text AS oid, s.schema_name AS schema, s.sequence_name AS name,
      format('%I.%I', s.schema_name, s.sequence_name) AS label, s.increment::text, s.min_value::text AS min,
      s.max_value::text AS max, s.cycle, s.given::text, s.upcoming::text, s.untouched, s.column_max::text AS "columnMax",
      s.fits, s.cycle_off AS "cycleOff", s.too_large AS "tooLarge", s.told
    FROM ha.sequence_state s ORDER BY s.schema_name, s.sequence_name`;
  return rows.map((row) => ({ ...row }));
}

/** Is there something to be done that can be done? */
export const isDue = ({ fits, tooLarge, told }: SequenceState): boolean => told || (!fits && !tooLarge);

/**
 * Makes one sequence fit this node's role and moves it beyond what the peer has given out. True if it was changed. Throws
 * AgentError while others hold it.
 */
export async function mendSequence(sql: Sql, { oid, label }: SequenceState, patience?: LockPatience): Promise<boolean> {
  return await withLock(sql, `sequence ${label}`, async (tx) => {
    const stamp = () =>
      tx<{ at: string }[]>`SELECT updated_at::text AS at FROM ha.sequence WHERE sequence = ${oid}::oid`;
    const [before] = await stamp();
    await tx`SELECT ha.ensure_sequence(${oid}::oid, true)`;
    const [after] = await stamp();
    const [{ moved }] = await tx<{ moved: boolean }[]>`SELECT ha.advance_sequence(${oid}::oid) AS moved`;
    return moved || before?.at !== after?.at;
  }, patience);
}

/**
 * Moves all sequences that fit beyond what the peer has given out: many in a moment, but only while nobody takes values.
 * Returns how many were moved.
 */
export async function advanceSequences(sql: Sql): Promise<number> {
  const [{ moved }] = await sql<{ moved: number }[]>`SELECT ha.advance_sequences() AS moved`;
  return moved;
}

/** Makes the sequences fit `role`; returns the names of those that were changed. Cheap when nothing is to be done. */
export async function ensureSequences(
  sql: Sql,
  role: "primary" | "secondary",
  patience: LockPatience = {},
): Promise<string[]> {
  const [state] = await sql<{ role: string }[]>`SELECT role FROM ha.state`;
  if (state?.role !== role) {
    throw new RefusedError(
      `Cannot make sequences those of a ${role}: the database is of ${state ? `a ${state.role}` : "no role yet"}`,
      "write the node's role into the database first",
    );
  }
  const changed: string[] = [];
  for (const sequence of (await readSequences(sql)).filter(isDue)) {
    if (await mendSequence(sql, sequence, patience)) changed.push(sequence.label);
  }
  return changed;
}
