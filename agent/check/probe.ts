// Tries one port of the other node. Connects and says one word at the most; short deadlines, and only addresses of the
// pair, which the caller hands in.
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import { errorCode } from "../postgres/connect.ts";
import type { Probe } from "./facts.ts";

const probeMs = 4000;
/** SSLRequest: any PostgreSQL answers it with S or N, before anybody logs in. */
const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** Whether something listens there. */
export function probePort(host: string, port: number): Promise<Probe> {
  return probe(host, port, null);
}

/** Whether PostgreSQL listens there. */
export function probePostgres(host: string, port: number): Promise<Probe> {
  return probe(host, port, sslRequest);
}

async function probe(host: string, port: number, hello: Buffer | null): Promise<Probe> {
  const failure = await new Promise<string | null>((resolve) => {
    const socket = connect({ host, port });
    const timer = setTimeout(() => end("TIMEOUT"), probeMs);
    const end = (failure: string | null) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(failure);
    };
    socket.on("error", (error) => end(errorCode(error) ?? error.message));
    socket.on("connect", () => hello === null ? end(null) : void socket.write(hello));
    socket.on(
      "data",
      (data) => end(data.length === 1 && "SN".includes(data.toString("latin1")) ? null : "NOT_POSTGRES"),
    );
    socket.on("end", () => end("NOT_POSTGRES"));
  });
  return { host, port, failure };
}
