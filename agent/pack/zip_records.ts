// The records of a zip file around members that are stored as they are, always in their 64-bit form, as bytes.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (sections 4.3 and 4.5.3). Pure; writes no file.
import { Buffer } from "node:buffer";

/** A member as far as it is known: `offset` of its local header, `size` of its content in bytes, `crc` of that. */
export interface ZipMember {
  readonly name: string;
  readonly modified: Date;
  readonly offset: number;
  readonly size: number;
  readonly crc: number;
}

/** Version 4.5 of the format: what has 64-bit fields. */
const version = 45;
const zip64 = 0x0001;
/** "Look into the 64-bit field." */
const elsewhere = 0xffff_ffff;
/** The member's attributes are those of Unix: a plain file that its owner reads and writes. */
const madeBy = (3 << 8) | version;
const attributes = 0o100600 * 0x1_0000;

/** 4.3.7. What stands before a member's content; its length depends on the name alone. */
export function localHeader({ name, modified, size, crc }: ZipMember): Buffer {
  const bytes = Buffer.alloc(30 + name.length + 20);
  bytes.writeUInt32LE(0x04034b50, 0);
  bytes.writeUInt16LE(version, 4);
  bytes.writeUInt32LE(dosTime(modified), 10);
  bytes.writeUInt32LE(crc, 14);
  bytes.writeUInt32LE(elsewhere, 18);
  bytes.writeUInt32LE(elsewhere, 22);
  bytes.writeUInt16LE(name.length, 26);
  bytes.writeUInt16LE(20, 28);
  bytes.write(name, 30, "latin1");
  return sizes(bytes, 30 + name.length, size, size);
}

/** 4.3.12 to 4.3.16: the directory of all members, which begins at `start` of the file, and the end of the zip. */
export function directory(members: readonly ZipMember[], start: number): Buffer {
  const entries = Buffer.concat(members.map(centralHeader));
  const end = Buffer.alloc(56 + 20 + 22);
  end.writeUInt32LE(0x06064b50, 0);
  writeUInt64(end, 44, 4); // what follows of this record
  end.writeUInt16LE(madeBy, 12);
  end.writeUInt16LE(version, 14);
  writeUInt64(end, members.length, 24);
  writeUInt64(end, members.length, 32);
  writeUInt64(end, entries.length, 40);
  writeUInt64(end, start, 48);
  end.writeUInt32LE(0x07064b50, 56);
  writeUInt64(end, start + entries.length, 64);
  end.writeUInt32LE(1, 72);
  end.writeUInt32LE(0x06054b50, 76);
  end.writeUInt16LE(0xffff, 84);
  end.writeUInt16LE(0xffff, 86);
  end.writeUInt32LE(elsewhere, 88);
  end.writeUInt32LE(elsewhere, 92);
  return Buffer.concat([entries, end]);
}

function centralHeader({ name, modified, offset, size, crc }: ZipMember): Buffer {
  const bytes = Buffer.alloc(46 + name.length + 28);
  bytes.writeUInt32LE(0x02014b50, 0);
  bytes.writeUInt16LE(madeBy, 4);
  bytes.writeUInt16LE(version, 6);
  bytes.writeUInt32LE(dosTime(modified), 12);
  bytes.writeUInt32LE(crc, 16);
  bytes.writeUInt32LE(elsewhere, 20);
  bytes.writeUInt32LE(elsewhere, 24);
  bytes.writeUInt16LE(name.length, 28);
  bytes.writeUInt16LE(28, 30);
  bytes.writeUInt32LE(attributes, 38);
  bytes.writeUInt32LE(elsewhere, 42);
  bytes.write(name, 46, "latin1");
  return sizes(bytes, 46 + name.length, size, size, offset);
}

/** 4.5.3: the 64-bit values of those fields that say "elsewhere", in their order. */
function sizes(bytes: Buffer, at: number, ...values: number[]): Buffer {
  bytes.writeUInt16LE(zip64, at);
  bytes.writeUInt16LE(8 * values.length, at + 2);
  values.forEach((value, i) => writeUInt64(bytes, value, at + 4 + 8 * i));
  return bytes;
}

function writeUInt64(bytes: Buffer, value: number, at: number): void {
  bytes.writeBigUInt64LE(BigInt(value), at);
}

/** 4.4.6: date and time as DOS had them, in steps of two seconds; from 1980 to 2107. */
function dosTime(time: Date): number {
  const year = Math.min(Math.max(time.getFullYear(), 1980), 2107) - 1980;
  const date = (year << 9) | ((time.getMonth() + 1) << 5) | time.getDate();
  return date * 0x1_0000 + ((time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1));
}
