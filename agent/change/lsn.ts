// A position in a node's WAL. Inside the agent it is a bigint of bytes; only here does it become text.
// Never compare LSNs of two different nodes with each other.

/** Bytes from the start of one node's WAL. */
export type Lsn = bigint;

/** Parses PostgreSQL's text form, `16/B374D848`. Throws RangeError on anything else. */
export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!match) throw new RangeError(`Cannot read LSN: "${text}" is not of the form 16/B374D848`);
  return (BigInt("0x" + match[1]) << 32n) | BigInt("0x" + match[2]);
}

/** PostgreSQL's text form of a position. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}
