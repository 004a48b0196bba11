// A network link between two nodes: a TCP proxy that can be cut, healed, delayed and throttled, as a WAN would be.
// Knows bytes only. A cut link swallows: neither side is told, as with a router that has gone.
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { Scope } from "./scope.ts";

export interface Address {
  host: string;
  port: number;
}

/** From one node to the other: the direction in which the bytes go. */
class Lane {
  delayMs = 0;
  bytesPerSecond = Infinity;
  #isCut = false;
  #healed: Promise<void> = Promise.resolve();
  #heal: () => void = () => {};

  get isCut(): boolean {
    return this.#isCut;
  }

  cut(): void {
    if (this.#isCut) return;
    this.#isCut = true;
    this.#healed = new Promise((heal) => this.#heal = heal);
  }

  heal(): void {
    this.#isCut = false;
    this.#heal();
  }

  /** When so many bytes may arrive at the far end. */
  async passage(bytes: number): Promise<void> {
    const ms = this.delayMs + bytes / this.bytesPerSecond * 1000;
    if (ms > 0) await pause(ms);
    while (this.#isCut) await this.#healed;
  }
}

/** Carries bytes one way, in order, with back-pressure, until the sender ends. */
async function carry(from: Socket, to: Socket, lane: Lane): Promise<void> {
  try {
    // By default the loop's end would destroy the socket, and with it what goes the other way.
    for await (const chunk of from.iterator({ destroyOnReturn: false })) {
      await lane.passage(chunk.length);
      if (to.destroyed) return;
      if (!to.write(chunk)) await once(to, "drain");
    }
    await lane.passage(0);
    to.end();
  } catch (_error) {
    // A connection that breaks, breaks at both ends.
    from.destroy();
    to.destroy();
  }
}

/** One listener that forwards to `target`; `forth` is from its clients to the target, `back` the other way. */
class Proxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(readonly target: Address, readonly forth: Lane, readonly back: Lane) {
    this.#server = createServer({ allowHalfOpen: true }, (client) => void this.#accept(client));
  }

  async #accept(client: Socket): Promise<void> {
    this.#keep(client);
    // A SYN is lost on a cut link like anything else.
    await this.forth.passage(0);
    await this.back.passage(0);
    if (client.destroyed) return;
    const server = new Socket({ allowHalfOpen: true });
    this.#keep(server);
    server.on("close", () => client.destroy());
    client.on("close", () => server.destroy());
    server.connect(this.target.port, this.target.host, () => {
      void carry(client, server, this.forth);
      void carry(server, client, this.back);
    });
  }

  #keep(socket: Socket): void {
    socket.setNoDelay(true);
    this.#sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
  }

  reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  listen(): Promise<Address> {
    return new Promise((resolve, reject) => {
      this.#server.on("error", reject);
      this.#server.listen(0, "127.0.0.1", () => {
        resolve({ host: "127.0.0.1", port: (this.#server.address() as AddressInfo).port });
      });
    });
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((done) => this.#server.close(() => done()));
  }
}

/** The link between nodes A and B. A must be told `toB` as B's address, and B `toA` as A's. */
export class Link {
  /** What A sends to B, on whichever connection. */
  readonly aToB = new Lane();
  readonly bToA = new Lane();
  readonly #proxies: [Proxy, Proxy];

  private constructor(a: Address, b: Address) {
    this.#proxies = [new Proxy(b, this.aToB, this.bToA), new Proxy(a, this.bToA, this.aToB)];
  }

  static async open(scope: Scope, a: Address, b: Address): Promise<{ link: Link; toB: Address; toA: Address }> {
    const link = new Link(a, b);
    const [toB, toA] = await Promise.all(link.#proxies.map((proxy) => proxy.listen()));
    scope.defer("the link", async () => void await Promise.all(link.#proxies.map((proxy) => proxy.close())));
    return { link, toB, toA };
  }

  /** Nothing passes any more, and nobody is told. One direction only, if named. */
  cut(direction: "both" | "aToB" | "bToA" = "both"): void {
    if (direction !== "bToA") this.aToB.cut();
    if (direction !== "aToB") this.bToA.cut();
  }

  /** All passes again; what waited is delivered. */
  heal(): void {
    this.aToB.heal();
    this.bToA.heal();
  }

  /** Both directions slower, from now on. */
  slow({ delayMs = 0, bytesPerSecond = Infinity }: { delayMs?: number; bytesPerSecond?: number }): void {
    Object.assign(this.aToB, { delayMs, bytesPerSecond });
    Object.assign(this.bToA, { delayMs, bytesPerSecond });
  }

  /** Every connection there is gets reset; new ones may be made. */
  reset(): void {
    for (const proxy of this.#proxies) proxy.reset();
  }
}
