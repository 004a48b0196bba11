// Two servers far from each other, on one machine: a TCP proxy that delays what passes and lets so many bytes a second
// through. What is on its way is bounded, as a router's queue is; then the sender has to wait.
import { Buffer } from "node:buffer";
import { type AddressInfo, createServer, Socket } from "node:net";
import type { Scope } from "../test/helpers/scope.ts";

export interface Distance {
  readonly roundTripMs: number;
  readonly bytesPerSecond: number;
}

/** 40 ms there and back, 100 Mbit/s. */
export const wan: Distance = { roundTripMs: 40, bytesPerSecond: 100_000_000 / 8 };

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** So much may be in a queue besides what is on its way. */
const queueBytes = 512 * 1024;

/** One direction of one link, which all its connections share. */
class Lane {
  /** When the last byte of what has been accepted leaves the sender. */
  private leaves = 0;

  constructor(private readonly distance: Distance) {}

  /** How long from now until the far end has the next `bytes`. */
  accept(bytes: number): number {
    const now = performance.now();
    this.leaves = Math.max(this.leaves, now) + bytes / this.distance.bytesPerSecond * 1000;
    return this.leaves - now + this.distance.roundTripMs / 2;
  }
}

/** Carries bytes one way, in order. */
function carry(from: Socket, to: Socket, lane: Lane, distance: Distance): void {
  const most = queueBytes + distance.bytesPerSecond * distance.roundTripMs / 1000;
  // One timer for the next of them: timers of their own, due within the same millisecond, run out in any order.
  const onTheWay: { chunk: Buffer; due: number }[] = [];
  let bytes = 0;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let ending = false;
  const flow = () => {
    if (bytes < most && !to.writableNeedDrain && from.isPaused()) from.resume();
  };
  const deliver = () => {
    timer = null;
    while (onTheWay.length > 0 && onTheWay[0].due <= performance.now()) {
      const { chunk } = onTheWay.shift()!;
      bytes -= chunk.length;
      if (!to.destroyed && !to.write(chunk)) from.pause();
    }
    flow();
    if (onTheWay.length > 0) wait();
    else if (ending && !to.destroyed) to.end();
  };
  const wait = () => {
    timer ??= setTimeout(deliver, Math.max(0, onTheWay[0].due - performance.now()));
  };
  const send = (chunk: Buffer) => {
    bytes += chunk.length;
    onTheWay.push({ chunk, due: performance.now() + lane.accept(chunk.length) });
    wait();
  };
  to.on("drain", flow);
  from.on("data", (chunk: Buffer) => {
    send(chunk);
    if (bytes >= most) from.pause();
  });
  from.on("end", () => {
    ending = true;
    send(Buffer.alloc(0));
  });
}

/** An address from which connections go to `target` over that distance. */
export async function openDistance(scope: Scope, target: Address, distance: Distance): Promise<Address> {
  const forth = new Lane(distance);
  const back = new Lane(distance);
  const sockets = new Set<Socket>();
  const keep = (socket: Socket, other: Socket) => {
    socket.setNoDelay(true);
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      other.destroy();
    });
  };
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    const far = new Socket({ allowHalfOpen: true });
    keep(client, far);
    keep(far, client);
    // A connection is there after a round trip.
    setTimeout(() => {
      if (client.destroyed) return;
      far.connect(target.port, target.host, () => {
        carry(client, far, forth, distance);
        carry(far, client, back, distance);
        client.resume();
      });
    }, distance.roundTripMs);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  scope.defer("the long way", async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((done) => server.close(() => done()));
  });
  return { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
}
