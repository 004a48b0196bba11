// The two nodes as the command line names them: `fqdn[:port]`. Pure but for the port check.
import { createServer, isIP } from "node:net";
import { isNoAddress, splitAddress } from "../config.ts";
import { RefusedError, UsageError } from "../errors.ts";

export interface NodeName {
  /** Unique within the pair. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** `host:port` of its peer API. */
  readonly address: string;
}

const defaultPort = 8282;

/** Parses both names; they may share a host (two ports), never an address. */
export function parseNames(primary: string, secondary: string): { primary: NodeName; secondary: NodeName } {
  const one = parseName(primary);
  const other = parseName(secondary);
  if (one.address === other.address) {
    throw new UsageError(
      `Cannot set up a pair: ${primary} and ${secondary} are the same address`,
      "name two servers, or two ports of one",
    );
  }
  if (one.host !== other.host) return { primary: one, secondary: other };
  return { primary: { ...one, name: one.address }, secondary: { ...other, name: other.address } };
}

function parseName(text: string): NodeName {
  const bare = isIP(text) === 6 ? `[${text}]` : text;
  const match = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}))(?::(\d{1,5}))?$/.exec(bare);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  const host = match?.[1] ?? "";
  const isBad = host.startsWith("[") ? isIP(host.slice(1, -1)) !== 6 : isNoAddress(host);
  if (!match || port < 1 || port > 65_535 || isBad) {
    throw new UsageError(
      `Cannot use ${JSON.stringify(text)} as the name of a server: it is not of the form fqdn[:port]`,
      "name it like primary.example.com, 192.0.2.1:8282 or [2001:db8::1]:8282",
    );
  }
  return named(`${match[1].toLowerCase()}:${port}`);
}

/** The name for a peer API address. */
export function named(address: string): NodeName {
  const { host, port } = splitAddress(address);
  return { name: host, host, port, address };
}

/** Where the node listens for its peer: everywhere, unless it is named by an address of its own. */
export function listenAddress(node: NodeName): string {
  return isIP(node.host) ? node.address : `0.0.0.0:${node.port}`;
}

/** Where the peer finds a node that listens there: at its own name, where it listens everywhere. */
export function addressFrom(name: string, listen: string): string {
  const { host, port } = splitAddress(listen);
  if (host !== "0.0.0.0" && host !== "::") return listen;
  if (isIP(name) === 6) return `[${name}]:${port}`;
  return name.includes(":") ? name : `${name}:${port}`; // two nodes of one host are told apart by their ports
}

/** Refuses an address that PostgreSQL could not listen at. */
export async function checkPort(host: string, port: number): Promise<void> {
  const code = await new Promise<string | null>((resolve) => {
    const server = createServer();
    server.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen(port, host, () => server.close(() => resolve(null)));
  });
  if (code === null) return;
  if (code === "EADDRINUSE") {
    throw new RefusedError(
      `Cannot use port ${port} of ${host}: another program listens there`,
      "stop that program, or choose another port with --pg-port",
    );
  }
  if (code === "EACCES") {
    throw new RefusedError(`Cannot use port ${port}: it needs root`, "choose a port above 1023 with --pg-port");
  }
  throw new UsageError(
    `Cannot listen at ${host}: it is no address of this machine${/^E[A-Z]+$/.test(code) ? ` (${code})` : ""}`,
    "name the server by a name that leads to it, on this machine too (see /etc/hosts)",
  );
}
