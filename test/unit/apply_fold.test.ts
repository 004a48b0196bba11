// Folding a batch must come to the same as applying it one by one; and its rows must be those bytes that COPY wants.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { CopyRows, type Row } from "../../agent/apply/copy_rows.ts";
import { fold, type RelationWork, type Segment, unchangedColumns } from "../../agent/apply/fold.ts";
import type { Op } from "../../agent/apply/inbox.ts";
import type { ColumnPlan, Plan } from "../../agent/apply/plan.ts";
import { decodeChange, DecodeError, decodeTuple, tag } from "../../agent/change/pgoutput.ts";
import * as make from "../helpers/messages.ts";
import { textPlan } from "../helpers/plans.ts";

const names = ["id", "a", "b"];
const plan = textPlan(names);
// The plans of these tests take binary columns; text is as good as any bytes.
const binary = (values: make.Value[]) => values.map((v) => typeof v === "string" ? Buffer.from(v) : v);
const insert = (...row: make.Value[]) => make.insert(1, binary(row));
const update = (row: make.Value[], old?: make.Value[]) => make.update(1, binary(row), old && binary(old));
const remove = (id: string) => make.remove(1, binary([id, null, null]));

const opOf = (message: Buffer): Op => ({
  message,
  chunk: message,
  at: 0,
  end: message.length,
  relation: message[0] === tag.truncate || message[0] === tag.message ? null : plan.relation,
  truncated: [],
  transaction: { begin: { commitLsn: 1n, commitTime: 0n, xid: 1 }, seen: 0n, endLsn: 0n },
});
const foldAll = (messages: Buffer[], by: Plan = plan) => fold(messages.map(opOf), () => by);

// ---- a table in memory

type Table = Map<string, string[]>;

function columnsOf(row: Row): (string | null | undefined)[] {
  return decodeTuple(row.message, row.at).map(({ kind, start, end }, position) => {
    if (kind === 0x75) return row.base ? columnsOf(row.base)[position] : undefined;
    return kind === 0x6e ? null : row.message.toString("utf8", start, end);
  });
}

function applyOne(table: Table, message: Buffer): void {
  if (message[0] === tag.truncate) return table.clear();
  const { oldTuple, newTuple } = decodeChange(message);
  const image = newTuple < 0 ? null : columnsOf({ message, at: newTuple, base: null });
  const old = oldTuple < 0 ? image![0]! : columnsOf({ message, at: oldTuple, base: null })[0]!;
  if (message[0] === tag.insert) {
    assert.ok(!table.has(image![0]!), "an insert finds no row");
    table.set(image![0]!, image as string[]);
    return;
  }
  const before = table.get(old);
  assert.ok(before, "the row is there");
  table.delete(old);
  if (image) table.set(image[0]!, image.map((value, i) => value === undefined ? before[i] : value!));
}

/** As the fast path does it: deletes, updates set by set, inserts; each has to meet exactly its rows. */
function applyWork(table: Table, work: RelationWork): void {
  for (const row of work.deletes) assert.ok(table.delete(columnsOf(row)[0]!), "a delete finds its row");
  for (const [mask, rows] of work.updates) {
    const left = new Set(mask ? mask.split(",").map(Number) : []);
    for (const row of rows) {
      const image = columnsOf(row);
      const before = table.get(image[0]!);
      assert.ok(before, "an update finds its row");
      assert.deepEqual(unchangedColumns(row), [...left]);
      table.set(image[0]!, image.map((value, i) => left.has(i) ? before[i] : value!));
    }
  }
  for (const row of work.inserts) {
    const image = columnsOf(row);
    assert.ok(!table.has(image[0]!) && !image.includes(undefined), "an insert finds no row and is whole");
    table.set(image[0]!, image as string[]);
  }
}

function applySegments(table: Table, segments: Segment[]): void {
  for (const segment of segments) {
    if (segment.kind === "ordered") { for (const op of segment.ops) applyOne(table, op.message); }
    else for (const work of segment.works) applyWork(table, work);
  }
}

const step = fc.record({
  what: fc.constantFrom("insert", "update", "update", "delete", "rekey", "truncate", "whole"),
  id: fc.constantFrom("1", "2", "3"),
  to: fc.constantFrom("1", "2", "3"),
  a: fc.option(fc.constantFrom("x", "y"), { nil: undefined }),
  b: fc.option(fc.constantFrom("x", "y", null), { nil: undefined }),
});

test("sets and ordered steps come to the same as the changes one by one", () => {
  let folded = 0;
  fc.assert(
    fc.property(fc.array(fc.constantFrom("1", "2", "3")), fc.array(step, { maxLength: 30 }), (there, steps) => {
      const start: Table = new Map(there.map((id) => [id, [id, "a0", "b0"]]));
      const oneByOne = new Map(start);
      const messages: Buffer[] = [];
      for (const { what, id, to, a, b } of steps) {
        const has = oneByOne.has(id);
        let message: Buffer | null = null;
        if (what === "insert" && !has) message = insert(id, a ?? "i", b ?? null);
        else if (what === "update" && has) message = update([id, a, b]);
        // REPLICA IDENTITY FULL and some updates send the old row though its key stays.
        else if (what === "whole" && has) message = update([id, a, b], [id, null, null]);
        else if (what === "delete" && has) message = remove(id);
        else if (what === "rekey" && has && !oneByOne.has(to)) message = update([to, a, b], [id, null, null]);
        else if (what === "truncate" && a === "x" && b === null) message = make.truncate([1]);
        if (!message) continue;
        messages.push(message);
        applyOne(oneByOne, message);
      }
      const inSets = new Map(start);
      const segments = foldAll(messages);
      applySegments(inSets, segments);
      assert.deepEqual([...inSets].sort(), [...oneByOne].sort());
      const ops = segments.flatMap((segment) => segment.ops.map((op) => op.message));
      assert.deepEqual(ops, messages, "every op stands in one segment, in order");
      if (segments.some((segment) => segment.kind === "sets")) folded++;
    }),
    { numRuns: 2000 },
  );
  assert.ok(folded > 1000, "most batches have sets");
});

// ---- single cases

const onlyWork = (messages: Buffer[]) => {
  const segments = foldAll(messages);
  assert.equal(segments.length, 1);
  assert.equal(segments[0].kind, "sets");
  const { deletes, updates, inserts } = (segments[0] as Segment & { kind: "sets" }).works[0];
  return {
    deletes: deletes.map((row) => columnsOf(row)[0]),
    updates: [...updates].map(([mask, rows]) => [mask, rows.map(columnsOf)]),
    inserts: inserts.map(columnsOf),
  };
};

test("inserted and deleted within the batch: nothing is left", () => {
  assert.deepEqual(onlyWork([insert("1", "x", "y"), remove("1")]), { deletes: [], updates: [], inserts: [] });
});

test("deleted and inserted again is both; updates of it go into the insert", () => {
  const work = onlyWork([remove("1"), insert("1", "x", "y"), update(["1", "z", undefined])]);
  assert.deepEqual(work, { deletes: ["1"], updates: [], inserts: [["1", "z", "y"]] });
});

test("updates that leave out different columns are one with all that either carries", () => {
  const work = onlyWork([update(["1", "x", undefined]), update(["1", undefined, "y"]), update(["2", undefined, "z"])]);
  assert.deepEqual(work.updates, [["", [["1", "x", "y"]]], ["1", [["2", undefined, "z"]]]]);
});

test("tables without a key: inserts are a set, the rest goes in order", () => {
  const keyless = textPlan(names, 0);
  const segments = foldAll([insert("1", "x", "y"), insert("1", "x", "y"), remove("1"), insert("2", "x", "y")], keyless);
  assert.deepEqual(segments.map(({ kind, ops }) => [kind, ops.length]), [["sets", 2], ["ordered", 1], ["sets", 1]]);
});

test("a row that is updated again and again in one batch, with a large value left alone", () => {
  const updates = Array.from({ length: 50_000 }, (_, i) => update(["1", String(i), undefined]));
  const [segment] = foldAll(updates);
  const [mask, [row]] = [...(segment as Segment & { kind: "sets" }).works[0].updates][0];
  assert.equal(mask, "2");
  const out: Buffer[] = [];
  const rows = new CopyRows(new Map(), (chunk) => out.push(chunk));
  rows.startRow(3);
  rows.addColumns(row, plan.columns);
  rows.end();
  assert.ok(Buffer.concat(out).includes("49999"));
});

// ---- rows of COPY BINARY

/** Reads COPY BINARY back: rows of fields. */
function readCopy(bytes: Buffer): (string | null)[][] {
  assert.equal(bytes.toString("latin1", 0, 11), "PGCOPY\n\xff\r\n\0");
  assert.equal(bytes.readBigUInt64BE(11), 0n);
  const rows: (string | null)[][] = [];
  let at = 19;
  for (let count = bytes.readInt16BE(at); count >= 0; count = bytes.readInt16BE(at)) {
    at += 2;
    const row: (string | null)[] = [];
    for (let i = 0; i < count; i++) {
      const length = bytes.readInt32BE(at);
      at += 4;
      row.push(length < 0 ? null : bytes.toString("latin1", at, at + length));
      at += Math.max(length, 0);
    }
    rows.push(row);
  }
  assert.equal(at + 2, bytes.length, "nothing behind the trailer");
  return rows;
}

const copied = (fill: (rows: CopyRows) => void, types = new Map()) => {
  const chunks: Buffer[] = [];
  const rows = new CopyRows(types, (chunk) => chunks.push(chunk));
  fill(rows);
  rows.end();
  return readCopy(Buffer.concat(chunks));
};
const rowOf = (message: Buffer, base: Row | null = null): Row => ({
  message,
  at: decodeChange(message).newTuple,
  base,
});

test("COPY: no rows is a header and a trailer", () => assert.deepEqual(copied(() => {}), []));

test("COPY: numbers, flags, nulls, columns by position", () => {
  const [b, id] = [plan.columns[2], plan.columns[0]];
  const got = copied((rows) => {
    rows.startRow(5);
    rows.addInt4(-2);
    rows.addBoolean(true);
    rows.addColumns(rowOf(insert("1", null, "y")), plan.columns);
    rows.startRow(2);
    rows.addColumns(rowOf(insert("1", "x", "y")), [id, b]);
  });
  assert.deepEqual(got, [["\xff\xff\xff\xfe", "\x01", "1", null, "y"], ["1", "y"]]);
});

test("COPY: an unchanged column comes from the newest earlier version that has it, else it is NULL", () => {
  const first = rowOf(insert("1", "x", "y"));
  const second = rowOf(update(["1", undefined, "z"]), first);
  const third = rowOf(update(["1", undefined, undefined]), second);
  const got = copied((rows) => {
    for (const row of [third, rowOf(update(["1", undefined, null]))]) {
      rows.startRow(3);
      rows.addColumns(row, plan.columns);
    }
  });
  assert.deepEqual(got, [["1", "x", "z"], ["1", null, null]]);
});

test("COPY: rows of any size come through whatever the chunks", () => {
  const sizes = fc.array(fc.oneof(fc.nat(60), fc.nat(300_000)), { maxLength: 12 });
  fc.assert(
    fc.property(sizes, (lengths) => {
      const values = lengths.map((length, i) => String.fromCharCode(97 + i).repeat(length));
      const got = copied((rows) => {
        for (const value of values) {
          rows.startRow(3);
          rows.addColumns(rowOf(insert("1", value, "end")), plan.columns);
        }
      });
      assert.deepEqual(got, values.map((value) => ["1", value, "end"]));
    }),
    { numRuns: 40 },
  );
});

test("COPY: a column in another format than planned is a DecodeError", () => {
  const text = make.insert(1, ["1", "x", "y"]);
  assert.throws(() => copied((rows) => rows.addColumns(rowOf(text), plan.columns)), DecodeError);
  const textColumn: ColumnPlan = { ...plan.columns[0], binary: false };
  assert.deepEqual(
    copied((rows) => {
      rows.startRow(1);
      rows.addColumns(rowOf(text), [textColumn]);
    }),
    [["1"]],
  );
});

test("a chunk of rows is filled again only once it has been handed back", () => {
  // Written at once, late, or never, as a server that keeps up, lags, or fails.
  fc.assert(
    fc.property(fc.array(fc.nat(3), { minLength: 1, maxLength: 30 }), (delays) => {
      const waiting: { chunk: Buffer; done: () => void }[] = [];
      const written: Buffer[] = [];
      let n = 0;
      const writeSome = (left: number) => {
        while (waiting.length > left) {
          const { chunk, done } = waiting.shift()!;
          written.push(Buffer.from(chunk));
          done();
        }
      };
      const rows = new CopyRows(new Map(), (chunk, done) => {
        waiting.push({ chunk, done });
        writeSome(delays[n++ % delays.length]);
      });
      const values = Array.from({ length: 40 }, (_, i) => String.fromCharCode(65 + i % 26).repeat(30_000 + i * 997));
      for (const value of values) {
        rows.startRow(1);
        rows.addColumns(rowOf(insert(value)), [plan.columns[0]]);
      }
      rows.end();
      writeSome(0);
      assert.deepEqual(readCopy(Buffer.concat(written)).flat(), values);
    }),
    { numRuns: 20 },
  );
});
