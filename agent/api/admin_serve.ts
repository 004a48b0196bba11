// Plain HTTP listeners of this node: the admin API on its unix socket (mode 0600) and the health API on TCP.
// Never takes the socket from an agent that still runs.
import { chmodSync, existsSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import type { Hono } from "hono";
import { AgentError, reason, RefusedError } from "../errors.ts";
import { listenError } from "./serve.ts";

export interface PlainListener {
  /** 0 for a unix socket. */
  readonly port: number;
  close(): Promise<void>;
}

/** Where the kernel cuts a socket's path off. */
const maxSocketPath = 103;

/** Serves the admin API at `path`. RefusedError where an agent answers there already; a stale socket is removed. */
export async function serveAdmin(path: string, app: Hono): Promise<PlainListener> {
  if (path.length > maxSocketPath) {
    throw new AgentError(
      `Cannot listen on ${path}: the path of a unix socket has at most ${maxSocketPath} characters`,
      "choose a home with a shorter path",
    );
  }
  if (existsSync(path)) {
    if (await isAnswered(path)) {
      throw new RefusedError(
        "Cannot start: an agent is already running for this home",
        "see agent status; stop that agent first, or name another folder with --home",
      );
    }
    rmSync(path, { force: true });
  }
  const listener = await listen(
    app,
    (server, done) => server.listen(path, done),
    (error) =>
      new AgentError(`Cannot listen on ${path}: ${reason(error)}`, "see that the folder exists and may be written"),
  );
  chmodSync(path, 0o600);
  return {
    port: 0,
    async close() {
      await listener.close();
      rmSync(path, { force: true });
    },
  };
}

/** Serves the health API. */
export function serveHealth(address: { host: string; port: number }, app: Hono): Promise<PlainListener> {
  return listen(
    app,
    (server, done) => server.listen(address.port, address.host, done),
    (error) => listenError(error, address),
    mostHealthSockets,
  );
}

/** Anybody may connect, and nobody is to take the files that the agent needs for its database. */
const mostHealthSockets = 256;

async function listen(
  app: Hono,
  start: (server: Server, done: () => void) => void,
  explain: (error: NodeJS.ErrnoException) => AgentError,
  mostSockets = Infinity,
): Promise<PlainListener> {
  // HAProxy's checks are HTTP/1.0 and name no host: without one in its place they would be refused.
  const hostname = "localhost";
  const server = createAdaptorServer({ fetch: app.fetch, hostname, overrideGlobalObjects: false }) as Server;
  const sockets = new Set<Socket>();
  server.headersTimeout = 10_000;
  server.requestTimeout = 30_000;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    if (sockets.size <= mostSockets) return;
    // The one that came first makes room: a load balancer that is ended so asks anew.
    const [oldest] = sockets;
    sockets.delete(oldest);
    oldest.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(explain(error)));
    start(server, resolve);
  });
  const address = server.address() as AddressInfo | string | null;
  return {
    port: typeof address === "object" ? address?.port ?? 0 : 0,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      // ENOTSOCK: a plain file in its place. EAGAIN: its queue of connections is full, so somebody lives there.
      if (["ECONNREFUSED", "ENOENT", "ENOTSOCK"].includes(error.code ?? "")) resolve(false);
      else if (error.code === "EAGAIN") resolve(true);
      else reject(new AgentError(`Cannot look at ${path}: ${reason(error)}`, "run it as the owner of that folder"));
    });
  });
}
