// Connections that have not finished their handshake: they get so long and no longer, and there are only so many, or silent
// strangers would use up the process's files. Bun does not keep tls.Server's own handshakeTimeout.
import type { Socket } from "node:net";

const timeoutMs = 10_000;
const most = 256;

export class Handshakes {
  /** By remote address and port: the socket that was accepted and the one of TLS may be two objects. Oldest first. */
  readonly #waiting = new Map<string, { socket: Socket; timer: ReturnType<typeof setTimeout> }>();

  constructor(private readonly limits = { timeoutMs, most }) {}

  get count(): number {
    return this.#waiting.size;
  }

  /** A connection was accepted. Beyond the limit the one that has waited longest makes room. */
  began(socket: Socket): void {
    const key = keyOf(socket);
    clearTimeout(this.#waiting.get(key)?.timer);
    const timer = setTimeout(() => socket.destroy(), this.limits.timeoutMs);
    this.#waiting.set(key, { socket, timer });
    socket.once("close", () => {
      if (this.#waiting.get(key)?.socket === socket) this.#forget(key);
    });
    if (this.#waiting.size <= this.limits.most) return;
    const [[oldest, { socket: victim }]] = this.#waiting;
    this.#forget(oldest);
    victim.destroy();
  }

  /** Its handshake is over, well or not. */
  ended(socket: Socket): void {
    this.#forget(keyOf(socket));
  }

  #forget(key: string): void {
    clearTimeout(this.#waiting.get(key)?.timer);
    this.#waiting.delete(key);
  }
}

function keyOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
