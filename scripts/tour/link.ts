// The network between the two nodes: forwards bytes until it is cut; then nothing passes and nobody is told, as with a
// router that has gone. Healed, it lets new connections through; those from before the cut are reset.
import { createServer, type Server, Socket } from "node:net";
import type { Address, NodePlace } from "./place.ts";

export class Link {
  private isCut = false;
  private waiting: (() => void)[] = [];
  private readonly sockets = new Set<Socket>();
  private readonly servers: Server[] = [];

  static async open(...nodes: NodePlace[]): Promise<Link> {
    const link = new Link();
    for (const { peer, behind } of nodes) await link.listen(peer, behind);
    return link;
  }

  private listen(at: Address, target: Address): Promise<void> {
    const server = createServer((client) => this.accept(client, target));
    this.servers.push(server);
    return new Promise((resolve, reject) => {
      server.on("error", reject);
      server.listen(at.port, at.host, resolve);
    });
  }

  private accept(client: Socket, target: Address): void {
    this.keep(client);
    client.pause();
    if (this.isCut) this.waiting.push(() => this.join(client, target));
    else this.join(client, target);
  }

  private join(client: Socket, target: Address): void {
    if (client.destroyed) return;
    const server = new Socket();
    this.keep(server);
    client.on("close", () => server.destroy());
    server.on("close", () => client.destroy());
    server.connect(target.port, target.host);
    client.pipe(server);
    server.pipe(client);
  }

  private keep(socket: Socket): void {
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.sockets.delete(socket));
    this.sockets.add(socket);
  }

  cut(): void {
    this.isCut = true;
    for (const socket of this.sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  heal(): void {
    this.isCut = false;
    this.waiting = [];
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await Promise.all(this.servers.map((server) => new Promise((closed) => server.close(closed))));
  }
}
