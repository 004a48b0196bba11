// The relay beside a receiver that is behind: it reads ahead, but not without bound; and what it has read is sent, also
// where the server is gone meanwhile. And what it waits for over a session's end.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import { markPrefix } from "../../agent/change/marks.ts";
import { Relay } from "../../agent/relay/relay.ts";
import type { Session } from "../../agent/wal/session.ts";
import * as make from "../helpers/messages.ts";
import { waitFor } from "../helpers/wait.ts";

const aheadBytes = 6 << 20;

/** A relay that serves, its server played by `feed` and `die`, its receiver by `taken` and `drain`. */
async function serving() {
  let feed: (chunk: Buffer) => void = () => {};
  let die: (error: Error) => void = () => {};
  let opened = () => {};
  let isPaused = false;
  const taken: Buffer[] = [];
  let ended = false;
  let takes = true;
  let drain = () => {};
  const unused = () => {};
  const marks: string[] = [];
  const adopted: string[] = [];
  const relay = new Relay({
    role: "primary",
    openSession: (_confirmed, onChunk) => {
      feed = onChunk;
      const session: Session = {
        pause: () => isPaused = true,
        resume: () => isPaused = false,
        confirm: unused,
        close: () => Promise.resolve(die(new Error("closed"))),
        ended: new Promise((resolve) => die = resolve),
      };
      queueMicrotask(() => opened());
      return Promise.resolve(session);
    },
    mark: (text) => {
      marks.push(text);
      return Promise.resolve(() => void adopted.push(text));
    },
    ledger: {
      noteCommit: unused,
      noteVerdict: unused,
      noteQuestion: unused,
      noteDelete: unused,
      noteTruncate: unused,
      prune: unused,
    },
    readKeys: () => Promise.resolve(new Map()),
    peerMayWrite: () => false,
    onFailure: unused,
    onRead: unused,
  });
  const open = new Promise<void>((resolve) => opened = resolve);
  const sink = {
    write: (frames: Buffer) => {
      taken.push(Buffer.from(frames));
      return takes;
    },
    onDrain: (listener: () => void) => void (drain = listener),
    end: () => void (ended = true),
  };
  const served = relay.serve(0n, sink, new AbortController().signal);
  await open;
  return {
    relay,
    served,
    feed: (chunk: Buffer) => feed(chunk),
    die: () => die(new Error("the server is gone")),
    drain: () => drain(),
    marks,
    adopted,
    receiverTakes: (value: boolean) => void (takes = value),
    bytes: () => Buffer.concat(taken),
    state: () => ({ paused: isPaused, ended }),
  };
}

const table = make.relation(1, "public", "t", [{ name: "id", key: true }, { name: "v" }]);
const row = make.xlog(make.insert(1, ["1", "x".repeat(100_000)]));
const start = Buffer.concat([make.begin(10n, 1), table].map(make.xlog));
/** What the filter sends of the start, in its order: the relation before the transaction that is held back. */
const startSent = Buffer.concat([table, make.begin(10n, 1)].map(make.xlog));

test("it reads ahead of a receiver that is behind up to a bound, and goes on when that has caught up", async () => {
  const side = await serving();
  side.receiverTakes(false);
  side.feed(start);
  const mostRows = Math.ceil(aheadBytes / row.length) + 10;
  let rows = 0;
  while (rows < mostRows) {
    side.feed(row);
    rows++;
    // A rest from many messages ends by a timer that was set before this one.
    if (side.state().paused) await new Promise((resolve) => setTimeout(resolve, 5));
    if (side.state().paused) break;
  }
  assert.ok(side.state().paused, "it has stopped reading");
  assert.ok(rows * row.length >= aheadBytes, "not at once");
  const sent = side.bytes().length;
  assert.ok(sent < 1 << 20, `${sent} bytes given to one who takes none`);
  // One piece at a time as long as the receiver is behind.
  side.drain();
  assert.ok(side.bytes().length > sent && side.bytes().length < 2 << 20);
  side.receiverTakes(true);
  side.drain();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(side.state().paused, false);
  assert.deepEqual(side.bytes(), Buffer.concat([startSent, ...Array(rows).fill(row)]));
  side.die();
  await assert.rejects(side.served, /the server is gone/);
  await side.relay.stop();
});

test("what was read before the server was gone is sent", async () => {
  const side = await serving();
  side.receiverTakes(false);
  side.feed(Buffer.concat([start, row, row]));
  side.feed(Buffer.concat([row, make.xlog(make.commit(10n, 20n)), row.subarray(0, 50)]));
  side.die();
  await assert.rejects(side.served, /the server is gone/);
  assert.ok(side.state().ended);
  assert.deepEqual(side.bytes(), Buffer.concat([startSent, row, row, row, make.xlog(make.commit(10n, 20n))]));
  await side.relay.stop();
});

test("what waits for a mark asks anew with each session: the slot may have been made anew without it", async () => {
  const side = await serving();
  let isNoted = false;
  const noted = side.relay.noted().then(() => isNoted = true);
  assert.equal(side.marks.length, 1);
  side.die();
  await assert.rejects(side.served, /the server is gone/);
  await waitFor(() => side.marks.length > 1, { what: "another mark for the next session", deadlineMs: 5000 });
  assert.equal(isNoted, false);
  const last = side.marks.at(-1)!;
  side.feed(Buffer.concat([make.begin(10n, 1), make.message(markPrefix, last), make.commit(10n, 20n)].map(make.xlog)));
  await noted;
  assert.deepEqual(side.adopted, [last], "what was looked at before the lost mark does not count");
  await side.relay.stop();
});
