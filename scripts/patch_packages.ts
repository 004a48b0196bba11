// Mends the package postgres 3.4.9 in node_modules: every query settles, and none reaches a session that is not its own when
// connections are lost; what is copied in and out is not copied about. Idempotent, also over earlier mends.
// Replaces a file, never writes into it: it may be a hard link into a cache. Other text than that version's is an error.
import { readFileSync, renameSync, writeFileSync } from "node:fs";

interface Change {
  /** What stands in that version, or what an earlier mend has put there. */
  readonly from: string | RegExp;
  readonly to: string;
}

const connection: readonly Change[] = [
  {
    // A write that is queued when its connection closes threw from a timer, where nobody can catch it, and ended the
    // process (https://github.com/porsager/postgres/issues/1208).
    from: "  function nextWrite(fn) {\n    const x = socket.write(chunk, fn)\n",
    to: `  function nextWrite(fn) {
    if (socket === null) {
      chunk = nextWriteTimer = null
      error(Errors.connection('CONNECTION_CLOSED', options))
      return false
    }
    const x = socket.write(chunk, fn)
`,
  },
  {
    // What is left of the old connection's queue would hold back, or go before, the new connection's first message.
    from: "    incomings = null\n    clearImmediate(nextWriteTimer)\n",
    to: "    incomings = null\n    clearImmediate(nextWriteTimer)\n    chunk = nextWriteTimer = null\n",
  },
  {
    // An error that comes after the end of COPY ... FROM STDIN reached nobody: whoever waited for the end waited for ever.
    from: "  function errored(err) {\n    stream &&",
    to: "  function errored(err) {\n    final && (final(err), final = null)\n    stream &&",
  },
  {
    // What was handed to a connection between its error and its close was never settled: it stayed in line, unsent, and
    // the next session's answers went to it. What had been active stayed, so that end() waited for ever and a fatal
    // error was told to the next session's first query (https://github.com/porsager/postgres/issues/1097, pull 1142).
    // So the end of a session settles all that it was given, whatever came before, and leaves nothing to the next one.
    from: `    if (initial)
      return reconnect()

    !hadError && (query || sent.length) && error(Errors.connection('CONNECTION_CLOSED', options, socket))
`,
    to: `    if (query || sent.length)
      error(Errors.connection('CONNECTION_CLOSED', options, socket))
    query = results = errorResponse = null
    result = new Result()
    rows = 0

    if (initial)
      return reconnect()

    ended && (ended(), ending = ended = null)
`,
  },
  {
    // Nobody could catch the error of a connection that is lost while it asks for the array types: the process ended.
    // Whoever rejects that query rejects the one that waits for it, too. And reserve() waited for ever for a connection
    // that was lost or asked for no types (https://github.com/porsager/postgres/issues/1195 and 751).
    from: / {8}initial\.reserve && \(initial = null\)\n {8}return fetchArrayTypes\(\)(?:\.catch\(errored\))?\n/,
    to: "        return fetchArrayTypes().catch(noop)\n",
  },
  {
    from: "      initial && !initial.reserve && execute(initial)\n",
    to: "      initial.reserve ? initial.reserve(connection) : execute(initial)\n",
  },
  {
    // Given several hosts, the query that opens a connection is kept for the next host; but once it had been sent, the loss of
    // the connection never settled it.
    from: "    if (connection.queue === queues.connecting && options.host[retries + 1])\n",
    to: "    if (initial && connection.queue === queues.connecting && options.host[retries + 1])\n",
  },
];

const copying: readonly Change[] = [
  {
    // A chunk that completes a message was copied whole, with all the messages behind that one: every second chunk of a
    // base backup.
    from: "  function data(x) {\n    if (incomings) {\n      incomings.push(x)\n      remaining -= x.length\n" +
      "      if (remaining > 0)\n        return\n    }\n",
    to: `  function data(x) {
    let rest = null
    if (incomings) {
      incomings.push(x)
      remaining -= x.length
      if (remaining > 0)
        return
      if (remaining < -1) {
        const end = x.length + remaining + 1
        incomings[incomings.length - 1] = x.subarray(0, end)
        rest = x.subarray(end)
        remaining = -1
      }
    }
`,
  },
  {
    from: "      incoming = incoming.subarray(length + 1)\n      remaining = 0\n      incomings = null\n    }\n  }\n",
    to: "      incoming = incoming.subarray(length + 1)\n      remaining = 0\n      incomings = null\n    }\n" +
      "    rest && data(rest)\n  }\n",
  },
  {
    // What is copied into a table was put together anew with its header, chunk by chunk: in memory that is new to the
    // process each time, which costs more than sending it.
    from: "        socket.write(b().d().raw(chunk).end(), callback)\n      },\n      destroy(error, callback) {",
    to: `        const head = b().d().end()
        head.writeUInt32BE(chunk.length + 4, 1)
        socket.write(head)
        socket.write(chunk, callback)
      },
      destroy(error, callback) {`,
  },
];

const pool: readonly Change[] = [
  {
    // A reserve() that had failed stayed in line and swallowed a connection later (see above).
    from: "        queries.push(query)\n        closed.length && connect(closed.shift(), query)\n",
    to: "        closed.length ? connect(closed.shift(), query) : queries.push(query)\n",
  },
  {
    // What is asked of a transaction or of a reserved connection after its session was lost, the transaction's own
    // ROLLBACK included, went to the session that the connection had by then: somebody else's. And what waited in line
    // was never settled (https://github.com/porsager/postgres/issues/1186).
    from: "    c.reserved.release = true\n\n    const sql = Sql(handler)\n    sql.release = () => {\n",
    to: `    c.reserved.release = true
    let lost = null
    c.onclose = (e) => {
      lost = e
      while (queue.length)
        queue.shift().reject(e)
    }

    const sql = Sql(handler)
    sql.release = () => {
      if (lost)
        return
      c.onclose = null
`,
  },
  {
    from: "    function handler(q) {\n      c.queue === full\n        ? queue.push(q)",
    to: "    function handler(q) {\n      lost ? q.reject(lost) : c.queue === full\n        ? queue.push(q)",
  },
  {
    from: "      , prepare = null\n\n    try {",
    to: "      , prepare = null\n      , lost = null\n\n    try {",
  },
  {
    from: "new Promise((_, reject) => connection.onclose = reject)",
    to: `new Promise((_, reject) => connection.onclose = (e) => {
          lost = e
          reject(e)
          while (queries.length)
            queries.shift().reject(e)
        })`,
  },
  {
    from: "        c.queue === full\n          ? queries.push(q)",
    to: "        lost ? q.reject(lost) : c.queue === full\n          ? queries.push(q)",
  },
];

// Another folder than that of this checkout can be named, to look at what becomes of it.
const folder = new URL(process.argv[2] ?? "../node_modules/", import.meta.url);
mend("postgres", "3.4.9", "src/connection.js", [...connection, ...copying]);
mend("postgres", "3.4.9", "src/index.js", pool);

function mend(name: string, version: string, path: string, changes: readonly Change[]): void {
  const file = new URL(`${name}/${path}`, folder);
  const before = readFileSync(file, "utf8");
  let text = before;
  for (const { from, to } of changes) {
    if (text.includes(to)) continue;
    const mended = text.replace(from, () => to);
    if (mended === text) throw new Error(`Cannot mend the package ${name}: its ${path} is not that of ${version}`);
    text = mended;
  }
  if (text === before) return;
  const fresh = new URL(`${file.href}.new`);
  writeFileSync(fresh, text);
  renameSync(fresh, file);
}
