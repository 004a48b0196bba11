// Times as pgoutput and the history have them, in SQL: microseconds since 2000-01-01 UTC. Builds text only.

const epoch = "'2000-01-01 00:00+00'::timestamptz";

/** Text of the microseconds of a timestamptz expression. */
export const microsecondsOf = (time: string): string =>
  `(extract(epoch FROM ${time} - ${epoch}) * 1000000)::bigint::text`;

/** The timestamptz of a bigint expression of microseconds. */
export const timeOfMicroseconds = (microseconds: string): string =>
  `${epoch} + ${microseconds} * interval '1 microsecond'`;
