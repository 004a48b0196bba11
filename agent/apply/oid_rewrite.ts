// Puts this node's type OIDs into binary values that came from the peer: arrays and composites name the OIDs of what
// they hold, and those of user-made types differ between the nodes.
// Layouts: array_send, record_send, range_send, multirange_send in PostgreSQL's src/backend/utils/adt.
import { Buffer } from "node:buffer";
import { DecodeError } from "../change/pgoutput.ts";
import type { TypeDescription } from "../postgres/catalog.ts";

/** A copy of `value` (the binary form of `type`) with local OIDs. Throws DecodeError where it has another layout. */
export function rewriteOids(value: Buffer, type: TypeDescription, types: ReadonlyMap<number, TypeDescription>): Buffer {
  const copy = Buffer.from(value);
  const end = rewrite(copy, 0, copy.length, type, types);
  if (end !== copy.length) throw new DecodeError(`Cannot decode value: bytes behind the end of a ${type.name}`);
  return copy;
}

function rewrite(
  bytes: Buffer,
  at: number,
  end: number,
  type: TypeDescription | undefined,
  types: ReadonlyMap<number, TypeDescription>,
): number {
  switch (type?.kind) {
    case "array":
      return rewriteArray(bytes, at, end, type.element, types);
    case "composite":
      return rewriteComposite(bytes, at, end, type.fields, types);
    case "domain":
      return rewrite(bytes, at, end, types.get(type.base), types);
    case "range":
      return rewriteRange(bytes, at, end, type.subtype, types);
    case "multirange": {
      const count = read(bytes, at, end);
      at += 4;
      for (let i = 0; i < count; i++) at = item(bytes, at, end, types.get(type.subtype), types);
      return at;
    }
    default:
      return end;
  }
}

function read(bytes: Buffer, at: number, end: number): number {
  if (at + 4 > end) throw new DecodeError("Cannot decode value: it is cut short");
  return bytes.readInt32BE(at);
}

/** One length-prefixed item; returns the offset behind it. */
function item(
  bytes: Buffer,
  at: number,
  end: number,
  type: TypeDescription | undefined,
  types: ReadonlyMap<number, TypeDescription>,
): number {
  const length = read(bytes, at, end);
  at += 4;
  if (length < 0) return at;
  if (at + length > end) throw new DecodeError("Cannot decode value: it is cut short");
  rewrite(bytes, at, at + length, type, types);
  return at + length;
}

function rewriteArray(
  bytes: Buffer,
  at: number,
  end: number,
  element: number,
  types: ReadonlyMap<number, TypeDescription>,
): number {
  const dimensions = read(bytes, at, end);
  read(bytes, at + 8, end);
  bytes.writeUInt32BE(element, at + 8);
  at += 12;
  let count = dimensions > 0 ? 1 : 0;
  for (let i = 0; i < dimensions; i++) {
    count *= read(bytes, at, end);
    at += 8;
  }
  for (let i = 0; i < count; i++) at = item(bytes, at, end, types.get(element), types);
  return at;
}

function rewriteComposite(
  bytes: Buffer,
  at: number,
  end: number,
  fields: readonly { typeOid: number }[],
  types: ReadonlyMap<number, TypeDescription>,
): number {
  if (read(bytes, at, end) !== fields.length) {
    throw new DecodeError("Cannot decode value: the composite type has other fields here");
  }
  at += 4;
  for (const field of fields) {
    read(bytes, at, end);
    bytes.writeUInt32BE(field.typeOid, at);
    at = item(bytes, at + 4, end, types.get(field.typeOid), types);
  }
  return at;
}

function rewriteRange(
  bytes: Buffer,
  at: number,
  end: number,
  subtype: number,
  types: ReadonlyMap<number, TypeDescription>,
): number {
  const flags = bytes[at++];
  const empty = flags & 0x01, lowerInfinite = flags & 0x08, upperInfinite = flags & 0x10;
  if (!empty && !lowerInfinite) at = item(bytes, at, end, types.get(subtype), types);
  if (!empty && !upperInfinite) at = item(bytes, at, end, types.get(subtype), types);
  return at;
}
