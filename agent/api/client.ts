// Calls the peer's API over mutual TLS 1.3. The peer is whoever holds exactly the pinned certificate, whatever its
// address is called. Never retries by itself: the caller knows what a lost answer means.
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { isIP, type Socket } from "node:net";
import type { ConnectionOptions, PeerCertificate } from "node:tls";
import { z } from "zod";
import { formatLsn, type Lsn } from "../change/lsn.ts";
import { type CheckAnswer, checkAnswer, type CheckRequest } from "../check_report.ts";
import { AgentError, reason, UnreachableError } from "../errors.ts";
import { type NodeReport, nodeReport } from "../report.ts";
import { splitPem } from "../trust/chain.ts";
import { errorOf } from "./problems.ts";
import {
  type CertificateAnswer,
  certificateAnswer,
  type CertificateRequest,
  type JoinAnswer,
  joinAnswer,
  type JoinRequest,
  type KeyProofAnswer,
  keyProofAnswer,
  type KeyProofBegun,
  keyProofBegun,
  type KeyProofRequest,
  type NewPackAnswer,
  newPackAnswer,
  type PositionAnswer,
  positionAnswer,
  type RowAnswer,
  rowAnswer,
  type RowRequest,
} from "./schemas.ts";

export interface ClientTls {
  readonly cert: string;
  readonly key: string;
  /** The peer's certificate, PEM, perhaps followed by those of its issuers; or several, any of which may be shown. */
  readonly pinned: string | readonly string[];
}

export interface CallOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** No answer may be longer. */
  readonly maxBytes?: number;
}

const maxAnswerBytes = 1024 * 1024;
/** A row with large values. */
const maxRowBytes = 512 * 1024 * 1024;
const rowTimeoutMs = 60_000;
const defaultTimeoutMs = 5000;
/** So long what was asked before a reload may wait for its answer. */
const reloadGraceMs = 30_000;
/** Longer than a node takes that finds nothing answering: its database, a resolver, ports. */
const checkTimeoutMs = 45_000;
const maxCheckBytes = 32 * 1024 * 1024;

/** The peer ended the connection right after the handshake: either it was lost, or the certificate is not trusted there. */
export class TurnedDownError extends UnreachableError {}

/** One peer. JSON calls share kept-alive connections; each stream has a connection of its own. */
export class PeerClient {
  readonly #host: string;
  readonly #port: number;
  #tls: TlsOptions;
  #agent: Agent;
  readonly #former = new Map<Agent, ReturnType<typeof setTimeout>>();
  readonly #handshakes = new WeakMap<Socket, { done: boolean }>();

  constructor(options: { address: { host: string; port: number }; tls: ClientTls }) {
    this.#host = options.address.host;
    this.#port = options.address.port;
    this.#tls = tlsOptions(options.tls);
    this.#agent = newAgent(this.#tls);
  }

  /** `host:port`, for messages. */
  get where(): string {
    return `${this.#host.includes(":") ? `[${this.#host}]` : this.#host}:${this.#port}`;
  }

  /** Certificates for the connections made from now on; what is under way on others is not broken off. */
  reload(tls: ClientTls): void {
    const former = this.#agent;
    this.#former.set(former, setTimeout(() => this.#drop(former), reloadGraceMs));
    this.#tls = tlsOptions(tls);
    this.#agent = newAgent(this.#tls);
  }

  close(): void {
    this.#agent.destroy();
    for (const agent of this.#former.keys()) this.#drop(agent);
  }

  #drop(agent: Agent): void {
    clearTimeout(this.#former.get(agent));
    this.#former.delete(agent);
    agent.destroy();
  }

  peer(options?: CallOptions): Promise<NodeReport> {
    return this.call("GET", "/v1/peer", undefined, nodeReport, options);
  }

  /** Brings the own report, takes the peer's. RefusedError where the peer says that this is not its pair. */
  heartbeat(report: NodeReport, options?: CallOptions): Promise<NodeReport> {
    return this.call("POST", "/v1/heartbeat", report, nodeReport, options);
  }

  join(body: JoinRequest, options?: CallOptions): Promise<JoinAnswer> {
    return this.call("POST", "/v1/join", body, joinAnswer, options);
  }

  /** One row as the peer has it. */
  async row(request: RowRequest): Promise<RowAnswer["row"]> {
    const limits = { timeoutMs: rowTimeoutMs, maxBytes: maxRowBytes };
    return (await this.call("POST", "/v1/row", request, rowAnswer, limits)).row;
  }

  /** How far the peer's changes go by now. */
  position(options?: CallOptions): Promise<PositionAnswer> {
    return this.call("POST", "/v1/position", {}, positionAnswer, options);
  }

  /** Tells the peer of a new certificate of this node, or shows that it is in use. */
  announceCertificate(request: CertificateRequest): Promise<CertificateAnswer> {
    return this.call("POST", "/v1/certificate", request, certificateAnswer);
  }

  /** The first step of a key proof: challenges are exchanged. */
  beginKeyProof(request: Omit<KeyProofRequest & { step: "begin" }, "step">): Promise<KeyProofBegun> {
    return this.call("POST", "/v1/key/proof", { step: "begin", ...request }, keyProofBegun);
  }

  proveKey(request: Omit<KeyProofRequest & { step: "prove" }, "step">): Promise<KeyProofAnswer> {
    return this.call("POST", "/v1/key/proof", { step: "prove", ...request }, keyProofAnswer);
  }

  /** The peer's own view, taken now. */
  check(request: CheckRequest): Promise<CheckAnswer> {
    const limits = { timeoutMs: checkTimeoutMs, maxBytes: maxCheckBytes };
    return this.call("POST", "/v1/check", request, checkAnswer, limits);
  }

  /** Asks the primary for a pack made anew (`id` null), or how far that is. */
  newPack(id: string | null, options?: CallOptions): Promise<NewPackAnswer> {
    return this.call("POST", "/v1/pack/new", { id }, newPackAnswer, options);
  }

  /** The peer's stream of changes after `after` (its LSN). The answer is read as slowly as the caller likes. */
  openChanges(
    from: { after: Lsn; generation: string; capturing: boolean },
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const query = new URLSearchParams({
      after: formatLsn(from.after),
      generation: from.generation,
      capturing: from.capturing ? "1" : "0",
    });
    return this.openStream("GET", `/v1/changes?${query}`, { signal });
  }

  /** A long-lived answer on a connection of its own. `timeoutMs` is for its headers only. */
  async openStream(
    method: "GET" | "HEAD",
    path: string,
    options: CallOptions & { headers?: Record<string, string> },
  ): Promise<IncomingMessage> {
    const deadline = new Deadline(options.timeoutMs ?? defaultTimeoutMs, options.signal);
    try {
      const headers = options.headers ?? {};
      const response = await this.#send(method, path, { headers, agent: false, signal: deadline.signal });
      response.socket?.setKeepAlive?.(true, 5000);
      // Without an error: whoever reads learns of it from the stream's early end.
      const abort = () => response.destroy();
      options.signal?.addEventListener("abort", abort, { once: true });
      response.once("close", () => options.signal?.removeEventListener("abort", abort));
      return response;
    } catch (error) {
      throw this.#unreachable(error);
    } finally {
      deadline.cancel();
    }
  }

  /** A JSON call: the answer is checked by `schema`. */
  async call<T>(
    method: "GET" | "POST",
    path: string,
    body: unknown,
    schema: z.ZodType<T>,
    options: CallOptions = {},
  ): Promise<T> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers: Record<string, string> = text === undefined
      ? {}
      : { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) };
    const deadline = new Deadline(options.timeoutMs ?? defaultTimeoutMs, options.signal);
    try {
      const response = await this.#send(method, path, { headers, text, agent: this.#agent, signal: deadline.signal });
      const answer = schema.safeParse(await readJson(response, deadline.signal, options.maxBytes));
      if (answer.success) return answer.data;
      throw new AgentError(
        `Cannot understand ${path} of ${this.where}: ${z.prettifyError(answer.error).split("\n")[0]}`,
        "install the same version of the agent on both servers",
      );
    } catch (error) {
      throw this.#unreachable(error);
    } finally {
      deadline.cancel();
    }
  }

  async #send(
    method: string,
    path: string,
    options: { headers: Record<string, string>; text?: string; agent: Agent | false; signal: AbortSignal },
  ): Promise<IncomingMessage> {
    const { headers, text, agent, signal } = options;
    signal.throwIfAborted();
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const target = { host: this.#host, port: this.#port, method, path };
      const request = httpsRequest({ ...target, headers, agent, ...this.#tls });
      const abort = () => request.destroy(asError(signal.reason));
      signal.addEventListener("abort", abort, { once: true });
      let handshake = { done: false };
      request.once("socket", (socket) => handshake = this.#handshakeOf(socket));
      request.on("error", (error) => {
        signal.removeEventListener("abort", abort);
        // In TLS 1.3 a server turns a client down after the client's handshake: it hangs up instead of answering.
        reject(signal.aborted ? asError(signal.reason) : handshake.done ? this.#turnedDown(error) : error);
      });
      request.once("response", (answer) => {
        signal.removeEventListener("abort", abort);
        resolve(answer);
      });
      request.end(text);
    });
    if (response.statusCode === 200 || response.statusCode === 206) return response;
    throw await this.#refusal(path, response, signal);
  }

  /** The handshake of a connection, new or kept alive: whether it is done. */
  #handshakeOf(socket: Socket): { done: boolean } {
    const known = this.#handshakes.get(socket);
    if (known) return known;
    const handshake = { done: false };
    this.#handshakes.set(socket, handshake);
    socket.once("secureConnect", () => handshake.done = true);
    return handshake;
  }

  async #refusal(path: string, response: IncomingMessage, signal: AbortSignal): Promise<AgentError> {
    const body = await readJson(response, signal).catch((error) => ({ error: reason(error) }));
    return errorOf(response.statusCode ?? 0, body, `${path} of ${this.where}`);
  }

  #turnedDown(cause: Error): Error {
    return new TurnedDownError(
      `Cannot reach ${this.where}: it hung up after the handshake: ${reason(cause)}`,
      "see that the agent runs there and that it has this node's certificate",
      { cause },
    );
  }

  #unreachable(error: unknown): AgentError {
    if (error instanceof AgentError) return error;
    return new UnreachableError(
      `Cannot reach ${this.where}: ${reason(error)}`,
      "see that the agent runs there and that its port is open from here",
      { cause: error },
    );
  }
}

type TlsOptions = Pick<
  ConnectionOptions,
  "cert" | "key" | "ca" | "minVersion" | "servername" | "checkServerIdentity"
>;

function newAgent(tls: TlsOptions): Agent {
  // No session cache: a resumed session would outlive a certificate that is no longer trusted. Heartbeats that are waited
  // for on a slow link each have a connection.
  return new Agent({ ...tls, keepAlive: true, maxSockets: 8, maxCachedSessions: 0 });
}

function tlsOptions(tls: ClientTls): TlsOptions {
  const pinned = typeof tls.pinned === "string" ? [tls.pinned] : tls.pinned;
  const certificates = pinned.map((pem) => new X509Certificate(pem));
  const name = certificateName(certificates[0]);
  return {
    cert: tls.cert,
    key: tls.key,
    ca: pinned.flatMap((pem) => splitPem(pem)),
    minVersion: "TLSv1.3",
    // Server name indication knows no addresses.
    servername: isIP(name) ? "" : name,
    checkServerIdentity: (_host: string, shown: PeerCertificate) =>
      certificates.some(({ fingerprint256 }) => fingerprint256 === shown.fingerprint256)
        ? undefined
        : new Error("it does not hold the pinned certificate"),
  };
}

function certificateName(certificate: X509Certificate): string {
  const alternative = /(?:^|, )DNS:([^,\s]+)/.exec(certificate.subjectAltName ?? "");
  const common = /(?:^|\n)CN=([^\n]+)/.exec(certificate.subject);
  return alternative?.[1] ?? common?.[1] ?? "";
}

/** Aborts after a time, or with the caller's own signal. */
class Deadline {
  readonly #controller = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout>;
  readonly #parent: AbortSignal | undefined;
  readonly #follow = () => this.#controller.abort(this.#parent?.reason);

  constructor(timeoutMs: number, parent?: AbortSignal) {
    this.#timer = setTimeout(() => this.#controller.abort(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    this.#parent = parent;
    if (parent?.aborted) this.#follow();
    parent?.addEventListener("abort", this.#follow, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#parent?.removeEventListener("abort", this.#follow);
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(reason(thrown));
}

async function readJson(response: IncomingMessage, signal: AbortSignal, maxBytes = maxAnswerBytes): Promise<unknown> {
  const abort = () => response.destroy(asError(signal.reason));
  signal.addEventListener("abort", abort, { once: true });
  try {
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const part of response) {
      bytes += part.length;
      if (bytes > maxBytes) throw new Error(`the answer is over ${maxBytes} bytes`);
      parts.push(part);
    }
    return JSON.parse(Buffer.concat(parts).toString("utf8"));
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
