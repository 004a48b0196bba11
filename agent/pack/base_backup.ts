// One BASE_BACKUP through PostgreSQL's replication protocol: the tar of the data directory as the server makes it, then
// its manifest. https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-BASE-BACKUP
// Copies nothing ahead of its reader: a slow reader slows the server down.
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import postgres from "postgres";
import { AgentError, reason } from "../errors.ts";
import type { Sql, Target } from "../postgres/connect.ts";
import { pushedChunks } from "./streams.ts";

// The server's own default, which costs it next to nothing: the pack is authenticated anyway, and what SHA-256 takes would
// be taken from the application.
const command = `BASE_BACKUP (LABEL 'hapair pack', CHECKPOINT 'fast', WAL true, PROGRESS true, ` +
  `MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')`;
const mostManifestBytes = 512 * 1024 * 1024;

export interface BaseBackup {
  /** The tar. Read it to its end first. */
  archive(): AsyncGenerator<Uint8Array>;
  /** The manifest, once the archive was read; makes sure that the server ended the backup without complaint. */
  manifest(): Promise<Buffer>;
  /** Ends the session, whatever state it is in. */
  close(): Promise<void>;
}

/** Begins a base backup. `sql` is an ordinary session of the same server. */
export async function beginBaseBackup(target: Target, sql: Sql): Promise<BaseBackup> {
  const tablespaces = await sql<{ spcname: string }[]>`
    select spcname from pg_tablespace where spcname not in ('pg_default', 'pg_global') order by 1`;
  if (tablespaces.length) {
    throw new AgentError(
      `Cannot copy the database: this server has tablespaces of its own (${
        tablespaces.map((t) => t.spcname).join(", ")
      })`,
      "move their tables with ALTER TABLE ... SET TABLESPACE pg_default and drop them",
    );
  }
  const name = `hapair pack ${randomBytes(4).toString("hex")}`;
  const warnings: string[] = [];
  const session = postgres({
    host: target.host,
    port: target.port,
    user: target.user,
    database: target.database,
    password: target.password ?? "",
    max: 1,
    fetch_types: false,
    idle_timeout: 0,
    max_lifetime: 0,
    connection: { application_name: name, replication: "database", lc_messages: "C" } as { application_name: string },
    // A page whose checksum is wrong is a warning to the server, which then fails after the last byte was sent.
    onnotice: (notice) => {
      if (notice.severity === "WARNING") warnings.push(notice.message ?? "");
    },
  });
  let stream: Readable;
  try {
    stream = await session.unsafe(command).readable() as unknown as Readable;
  } catch (error) {
    await session.end({ timeout: 0 });
    throw failed(error);
  }
  const chunks = pushedChunks(stream);
  const close = async () => {
    stream.on("error", () => {}); // ending the session is what breaks the stream
    // A server that waits for us to read on does not notice that we hang up: end it from the other side.
    await sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = ${name}`;
    stream.destroy();
    await session.end({ timeout: 0 });
  };
  return {
    archive: () => archive(chunks),
    async manifest() {
      const bytes = await manifest(chunks);
      // The driver may have paused its socket before the last chunk, and nobody reads the stream any more.
      stream._read(0);
      // A further command waits until the server has ended the backup, and fails where the session did.
      await session.unsafe("IDENTIFY_SYSTEM").simple().catch((error) => {
        throw failed(error);
      });
      const corrupt = warnings.find((text) => /checksum|could not/i.test(text));
      if (corrupt !== undefined) throw failed(new Error(corrupt));
      return bytes;
    },
    close,
  };
}

async function* archive(chunks: AsyncGenerator<Buffer>): AsyncGenerator<Uint8Array> {
  let archives = 0;
  while (true) {
    const { done, value } = await chunks.next().catch((error) => {
      throw failed(error);
    });
    if (done) throw failed(new Error("the server ended the backup without a manifest"));
    const kind = String.fromCharCode(value[0]);
    if (kind === "d") yield value.subarray(1);
    else if (kind === "m") return;
    else if (kind === "n" && ++archives > 1) throw failed(new Error("a tablespace was made meanwhile"));
    else if (kind !== "n" && kind !== "p") throw failed(new Error(`unknown message ${JSON.stringify(kind)}`));
  }
}

async function manifest(chunks: AsyncGenerator<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    const kind = String.fromCharCode(chunk[0]);
    if (kind !== "d") {
      if (kind === "p") continue;
      throw failed(new Error(`unknown message ${JSON.stringify(kind)} in the manifest`));
    }
    size += chunk.length;
    if (size > mostManifestBytes) throw failed(new Error("the backup manifest is larger than 512 MB"));
    parts.push(chunk.subarray(1));
  }
  return Buffer.concat(parts);
}

function failed(error: unknown): AgentError {
  return new AgentError(
    `Cannot copy the database: the base backup failed: ${reason(error)}`,
    "look into the server's log; max_wal_senders must leave room for one more session",
    { cause: error },
  );
}
