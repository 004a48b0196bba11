// The TLS listener of the peer API: mutual TLS 1.3 with pinned certificates, in front of a Hono app and of raw streams.
// Must never answer anyone whose certificate is not exactly one of the pinned ones.
import { X509Certificate } from "node:crypto";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { getRequestListener } from "@hono/node-server";
import { getLogger } from "@logtape/logtape";
import type { Hono } from "hono";
import { AgentError, reason } from "../errors.ts";
import { splitPem } from "../trust/chain.ts";
import { Handshakes } from "./handshakes.ts";
import { findFingerprint, mayReach, type PeerUse } from "./access.ts";

export interface PeerTls {
  readonly cert: string;
  readonly key: string;
  /** PEM, each perhaps followed by the certificates of its issuers: only the first is let in. */
  readonly trusted: readonly { readonly pem: string; readonly use: PeerUse }[];
  /** Fingerprints of former certificates of the peer: not let in any more, but what is open goes on to its end. */
  readonly superseded?: ReadonlySet<string>;
}

/** A long-lived answer: writes to `response` itself and minds its back-pressure. */
export type RawAnswer = (request: IncomingMessage, response: ServerResponse, use: PeerUse) => void | Promise<void>;

/** What a Hono app of the peer API finds in `c.env`. */
export interface PeerEnv {
  Bindings: { peerUse: PeerUse; /** SHA-256, lower-case hex: what the caller showed. */ peerCertificate: string };
}

export interface PeerListener {
  readonly port: number;
  /** New certificates for new handshakes; connections of certificates that are no longer trusted end. */
  reload(tls: PeerTls): void;
  /** Stops listening and ends every connection. */
  close(): Promise<void>;
}

interface Connection {
  readonly fingerprint: string;
  readonly use: PeerUse;
  busy: number;
  /** Long-lived answers under way. */
  streaming: number;
  endWhenIdle: boolean;
}

const log = getLogger(["hapair", "api", "peer"]);
const keepAliveProbeMs = 30_000;

/** Listens for the peer. `raw` is keyed by path and takes GET and HEAD; all else goes to `app`. */
export async function servePeers(options: {
  listen: { host: string; port: number };
  tls: PeerTls;
  app: Hono<PeerEnv>;
  raw: Readonly<Record<string, RawAnswer>>;
  /** Connections on which nothing moves for so long are ended, but for long-lived answers. */
  idleMs?: number;
}): Promise<PeerListener> {
  const { listen, app, raw, idleMs = 120_000 } = options;
  let trusted = fingerprints(options.tls);
  const connections = new Map<TLSSocket, Connection>();
  const sockets = new Set<Socket>();
  const handshakes = new Handshakes();

  const http = createHttpServer({ headersTimeout: 10_000, requestTimeout: 30_000, keepAliveTimeout: 60_000 });
  http.on("timeout", () => {}); // decided below: without a listener node ends whatever is idle
  http.on("request", (request, response) => {
    const socket = request.socket as TLSSocket;
    const connection = connections.get(socket);
    if (!connection) return void socket.destroy();
    const streams = Object.hasOwn(raw, pathOf(request)) ? 1 : 0;
    connection.busy++;
    connection.streaming += streams;
    response.once("close", () => {
      connection.busy--;
      connection.streaming -= streams;
      if (connection.endWhenIdle && connection.busy === 0) socket.end();
    });
    answer(request, response, connection, app, raw);
  });

  const server = createTlsServer({ ...context(options.tls), ...demands }, (socket) => {
    handshakes.ended(socket);
    track(sockets, socket);
    socket.on("error", (error) => log.debug("connection lost: {reason}", { reason: reason(error) }));
    const found = findFingerprint(trusted, socket.getPeerCertificate()?.fingerprint256);
    if (!found) {
      // Issued by the authority of a pinned one, as else the handshake would have failed.
      log.warn("refused {remote}: its certificate is not a pinned one", { remote: socket.remoteAddress });
      return void socket.destroy();
    }
    const connection: Connection = { ...found, busy: 0, streaming: 0, endWhenIdle: false };
    connections.set(socket, connection);
    // Bun keeps none of the HTTP server's own times on a socket that is handed to it, and a peer that is cut off says nothing.
    socket.setKeepAlive(true, keepAliveProbeMs);
    socket.setTimeout(idleMs, () => connection.streaming === 0 && socket.destroy());
    socket.once("close", () => connections.delete(socket));
    http.emit("connection", socket);
  });
  server.on("connection", (socket: Socket) => {
    track(sockets, socket);
    handshakes.began(socket);
  });
  server.on("tlsClientError", (error, socket) => {
    log.debug("refused {remote} in the handshake: {reason}", { remote: socket?.remoteAddress, reason: reason(error) });
  });

  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, listen)));
    server.listen(listen.port, listen.host, resolve);
  });
  server.on("error", (error) => log.error("peer API: {reason}", { reason: reason(error) }));

  return {
    port: (server.address() as AddressInfo).port,
    reload(tls) {
      server.setSecureContext({ ...context(tls), minVersion: demands.minVersion });
      trusted = fingerprints(tls);
      for (const [socket, connection] of connections) {
        const found = findFingerprint(trusted, connection.fingerprint);
        if (found?.use === connection.use) continue;
        // The one-time certificate is retired by the very request that it makes: that answer still goes out. A renewed
        // certificate breaks no stream.
        const mayEnd = connection.use === "join" || tls.superseded?.has(plain(connection.fingerprint));
        if (mayEnd && connection.busy > 0) connection.endWhenIdle = true;
        else socket.destroy();
      }
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of [...connections.keys(), ...sockets]) socket.destroy();
      http.close();
      await closed;
    },
  };
}

const demands = {
  requestCert: true,
  rejectUnauthorized: true,
  minVersion: "TLSv1.3",
} as const;

function context(tls: PeerTls): { cert: string; key: string; ca: string[] } {
  const pinned = tls.trusted.flatMap((one) => splitPem(one.pem));
  // An empty list would mean the public authorities; the node's own certificate stands for "nobody else".
  return { cert: tls.cert, key: tls.key, ca: pinned.length ? pinned : [tls.cert] };
}

function fingerprints(tls: PeerTls): { fingerprint: string; use: PeerUse }[] {
  return tls.trusted.map(({ pem, use }) => ({ fingerprint: new X509Certificate(pem).fingerprint256, use }));
}

/** As fingerprint() writes it. */
function plain(fingerprint: string): string {
  return fingerprint.replaceAll(":", "").toLowerCase();
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { use, fingerprint }: Connection,
  app: Hono<PeerEnv>,
  raw: Readonly<Record<string, RawAnswer>>,
): void {
  const method = request.method ?? "GET";
  const path = pathOf(request);
  if (!mayReach(use, method, path)) {
    const opens = use === "join" ? "the join certificate only opens /v1/join" : "a token only opens /v1/pack";
    return sendError(response, 403, `Cannot answer: ${opens}`, "join the pair first");
  }
  const stream = Object.hasOwn(raw, path) ? raw[path] : undefined;
  if (stream) {
    if (method !== "GET" && method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      return sendError(response, 405, `Cannot ${method} ${path}: it is read with GET`, "see /v1/openapi.json");
    }
    Promise.resolve().then(() => stream(request, response, use)).catch((error) => {
      log.error("{path} failed: {reason}", { path, reason: reason(error) });
      if (response.headersSent) response.destroy();
      else sendError(response, 500, `Cannot answer ${path}: ${reason(error)}`, "see the log of this agent");
    });
    return;
  }
  const environment: PeerEnv["Bindings"] = { peerUse: use, peerCertificate: plain(fingerprint) };
  const listener = getRequestListener((incoming) => app.fetch(incoming, environment), { overrideGlobalObjects: false });
  listener(request, response).catch((error) => {
    log.error("{path} failed: {reason}", { path, reason: reason(error) });
    response.destroy();
  });
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "/").split("?")[0];
}

/** A refusal of a raw answer, in the form of all others. */
export function sendError(response: ServerResponse, status: number, error: string, remedy: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ error, remedy }));
}

function track(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.once("close", () => sockets.delete(socket));
}

/** What a failed listen means for the operator. */
export function listenError(error: NodeJS.ErrnoException, listen: { host: string; port: number }): AgentError {
  const where = `${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${listen.port}`;
  const [state, remedy] = error.code === "EADDRINUSE"
    ? ["it is taken by another program", "stop that program, or name another address with listen in agent.toml"]
    : error.code === "EADDRNOTAVAIL"
    ? ["this machine has no such address", "correct listen in agent.toml; 0.0.0.0 means every address"]
    : error.code === "EACCES"
    ? ["this user may not", "choose a port above 1023 with listen in agent.toml"]
    : [reason(error), "correct listen in agent.toml"];
  return new AgentError(`Cannot listen on ${where}: ${state}`, remedy, { cause: error });
}
