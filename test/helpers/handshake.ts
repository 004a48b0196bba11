// Knocks at a node's peer API with any certificate, or none, as a stranger would, and says what came back.
import { request } from "node:https";
import { connect, type SecureVersion } from "node:tls";

export interface Knock {
  readonly host: string;
  readonly port: number;
  readonly cert?: string;
  readonly key?: string;
  readonly maxVersion?: SecureVersion;
}

/** All that the server says after the handshake, if there is one, to a request; "" if it says nothing. */
export async function knock({ host, port, cert, key, maxVersion = "TLSv1.3" }: Knock): Promise<string> {
  const socket = connect({
    host,
    port,
    cert,
    key,
    rejectUnauthorized: false,
    servername: "",
    minVersion: "TLSv1.2",
    maxVersion,
  });
  let said = "";
  socket.on("data", (data) => said += data);
  socket.on("error", () => {}); // a refusal; that it came to an end is what counts
  const timer = setTimeout(() => {
    said = "nothing, and the connection stayed open";
    socket.destroy();
  }, 60_000);
  socket.write("GET /v1/peer HTTP/1.1\r\nhost: peer\r\nconnection: close\r\n\r\n");
  await new Promise((closed) => socket.once("close", closed));
  clearTimeout(timer);
  return said;
}

/** The status of a request with this certificate, as the peer makes it; null: it is refused before. */
export function ask({ host, port, cert, key }: Knock, path = "/v1/peer"): Promise<number | null> {
  return new Promise((resolve) => {
    const options = {
      host,
      port,
      path,
      cert,
      key,
      rejectUnauthorized: false,
      servername: "",
      agent: false,
      timeout: 60_000,
    };
    const asked = request(options, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? null));
    });
    asked.on("error", () => resolve(null));
    asked.end();
  });
}
