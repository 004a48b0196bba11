// Connections without a handshake: ended after their time, the oldest first where there are too many; those that are done are
// left alone.
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import { test } from "node:test";
import { Handshakes } from "../../agent/api/handshakes.ts";
import { waitFor } from "../helpers/wait.ts";

class FakeSocket extends EventEmitter {
  readonly remoteAddress = "192.0.2.1";
  destroyed = false;

  constructor(readonly remotePort: number) {
    super();
  }

  destroy(): void {
    this.destroyed = true;
    this.emit("close");
  }
}

const open = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => new FakeSocket(from + i) as unknown as Socket & FakeSocket);

test("one that says nothing is ended; one whose handshake is over is not", async () => {
  const handshakes = new Handshakes({ timeoutMs: 30, most: 10 });
  const [silent, done, gone] = open(1, 4);
  for (const socket of [silent, done, gone]) handshakes.began(socket);
  // TLS may tell of it by another object of the same connection.
  handshakes.ended(new FakeSocket(done.remotePort) as unknown as Socket);
  gone.destroy();
  assert.equal(handshakes.count, 1);
  await waitFor(() => silent.destroyed, { what: "the end of the silent one", deadlineMs: 20_000, everyMs: 10 });
  assert.equal(handshakes.count, 0);
  assert.equal(done.destroyed, false);
});

test("of too many the oldest makes room", () => {
  const handshakes = new Handshakes({ timeoutMs: 60_000, most: 5 });
  const sockets = open(100, 120);
  for (const socket of sockets) handshakes.began(socket);
  assert.equal(handshakes.count, 5);
  assert.deepEqual(sockets.map(({ destroyed }) => destroyed), sockets.map((_, i) => i < 15));
  for (const socket of sockets) socket.destroy();
  assert.equal(handshakes.count, 0);
});

test("a port that is used again belongs to the new connection", () => {
  const handshakes = new Handshakes({ timeoutMs: 60_000, most: 5 });
  const [former, next] = [...open(7, 8), ...open(7, 8)];
  handshakes.began(former);
  handshakes.began(next);
  former.destroy();
  assert.equal(handshakes.count, 1);
  handshakes.ended(next);
  assert.equal(handshakes.count, 0);
});
