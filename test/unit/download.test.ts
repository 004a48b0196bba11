// The pack over HTTP, from a file to a file: ranges, resumption, and that two versions of a pack are never put together.
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import {
  createServer,
  type IncomingMessage,
  request as httpRequest,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { wantedBytes } from "../../agent/api/ranges.ts";
import { AgentError, UnreachableError } from "../../agent/errors.ts";
import { answerPack } from "../../agent/node/pack_answer.ts";
import { memberNames, type PackManifest } from "../../agent/pack/manifest.ts";
import { writeZip } from "../../agent/pack/zip_writer.ts";
import { downloadPack, type DownloadRequest } from "../../agent/setup/download.ts";
import { askFor, backoffMs, readAnswer } from "../../agent/setup/download_plan.ts";
import { manifestOf } from "../helpers/pack_manifest.ts";

const file = { size: 1000, etag: '"one"' };
const ranges: [range: string | undefined, ifRange: string | undefined, expected: ReturnType<typeof wantedBytes>][] = [
  [undefined, undefined, { status: 200, start: 0, end: 1000 }],
  ["bytes=0-", undefined, { status: 206, start: 0, end: 1000 }],
  ["bytes=10-19", undefined, { status: 206, start: 10, end: 20 }],
  ["bytes=990-5000", undefined, { status: 206, start: 990, end: 1000 }],
  ["bytes=-100", undefined, { status: 206, start: 900, end: 1000 }],
  ["bytes=-5000", undefined, { status: 206, start: 0, end: 1000 }],
  ["bytes=999-", undefined, { status: 206, start: 999, end: 1000 }],
  ["bytes=1000-", undefined, { status: 416 }],
  ["bytes=-0", undefined, { status: 416 }],
  ["bytes=-", undefined, { status: 200, start: 0, end: 1000 }],
  ["bytes=20-10", undefined, { status: 200, start: 0, end: 1000 }],
  ["bytes=0-1,5-6", undefined, { status: 200, start: 0, end: 1000 }],
  ["lines=1-2", undefined, { status: 200, start: 0, end: 1000 }],
  ["bytes=10-", '"one"', { status: 206, start: 10, end: 1000 }],
  ["bytes=10-", '"two"', { status: 200, start: 0, end: 1000 }],
  ["bytes=10-", 'W/"one"', { status: 200, start: 0, end: 1000 }],
  ["bytes=10-", "Wed, 25 Nov 2026 00:00:00 GMT", { status: 200, start: 0, end: 1000 }],
  ["bytes=5000-", '"two"', { status: 200, start: 0, end: 1000 }],
  ["bytes=5000-", '"one"', { status: 416 }],
];
for (const [range, ifRange, expected] of ranges) {
  test(`Range ${range}, If-Range ${ifRange}`, () => assert.deepEqual(wantedBytes({ range, ifRange }, file), expected));
}

test("whatever is there and whatever the server has, asking and answering put together one version", () => {
  const tag = fc.constantFrom('"one"', '"two"');
  const present = fc.option(fc.record({ etag: tag, total: fc.integer({ min: 1, max: 50 }), share: fc.nat(100) }), {
    nil: null,
  });
  fc.assert(fc.property(present, tag, fc.integer({ min: 1, max: 50 }), (had, etag, size) => {
    const here = had && { etag: had.etag, total: had.total, bytes: Math.floor(had.total * had.share / 100) };
    // One tag is one content: it cannot have two sizes.
    fc.pre(here === null || here.etag !== etag || here.total === size);
    const ask = askFor(here);
    const wanted = wantedBytes({ range: ask.headers.range, ifRange: ask.headers["if-range"] }, { size, etag });
    assert.notEqual(wanted.status, 416);
    if (wanted.status === 416) return;
    const plan = readAnswer(ask, here, {
      status: wanted.status,
      etag,
      contentLength: String(wanted.end - wanted.start),
      contentRange: `bytes ${wanted.start}-${wanted.end - 1}/${size}`,
    });
    assert.ok(plan !== null);
    assert.equal(plan.etag, etag);
    assert.equal(plan.total, size);
    assert.ok(plan.from === 0 || (here!.etag === etag && plan.from <= here!.bytes), "goes on within what is there");
    if (here?.etag === etag) assert.equal(plan.from, Math.min(here.bytes, size - 1), "nothing is sent twice");
  }));
});

test("an answer that does not fit what was asked for is none", () => {
  const present = { etag: '"one"', total: 100, bytes: 50 };
  const good = { status: 206, etag: '"one"', contentLength: "50", contentRange: "bytes 50-99/100" };
  assert.deepEqual(readAnswer(askFor(present), present, good), { etag: '"one"', total: 100, from: 50 });
  const bad: Partial<typeof good>[] = [
    { etag: '"two"' },
    { etag: undefined },
    { contentRange: "bytes 49-99/100" },
    { contentRange: "bytes 50-98/100" },
    { contentRange: "bytes 50-99/101" },
    { contentRange: undefined },
    { status: 204 },
    { status: 200, contentLength: undefined },
    { status: 200, contentLength: "0" },
    { status: 200, etag: 'W/"one"' },
  ];
  for (const change of bad) {
    assert.equal(readAnswer(askFor(present), present, { ...good, ...change }), null, JSON.stringify(change));
  }
  assert.equal(readAnswer(askFor(null), null, good), null);
});

test("the waits grow and stay below a bound", () => {
  assert.deepEqual([1, 2, 3, 6, 50].map(backoffMs), [500, 1000, 2000, 15_000, 15_000]);
});

const manifest = (generation: string, sha256: string): PackManifest =>
  manifestOf([{ name: memberNames.data, size: 1, head: 1, sha256 }], { generation });

/** A zip that says of itself what a pack says, with so much data in it. */
async function writePack(path: string, generation: string, bytes: number): Promise<void> {
  const zip = await writeZip(path);
  const add = (name: string, content: Uint8Array) =>
    zip.add(
      name,
      (async function* () {
        yield await Promise.resolve(content);
      })(),
    );
  const data = randomBytes(bytes);
  await add(memberNames.data, data);
  const sum = createHash("sha256").update(data).digest("hex");
  await add(memberNames.manifest, Buffer.from(JSON.stringify(manifest(generation, sum))));
  await zip.commit();
}

interface Place {
  readonly pack: string;
  readonly file: string;
  /** Changes what the server does with the next answers. */
  answer: (request: IncomingMessage, response: ServerResponse) => void;
  generation: string;
  readonly asked: string[];
  request(more?: Partial<DownloadRequest>): DownloadRequest & { notes: string[] };
  get(
    headers?: Record<string, string>,
    method?: string,
  ): Promise<{ status: number; headers: IncomingMessage["headers"]; body: Buffer }>;
}

async function atPlace(body: (place: Place) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "ha-download-"));
  const pack = join(folder, "HAPack.zip");
  const source = { file: pack, generation: () => Promise.resolve(place.generation) };
  const server: Server = createServer((request, response) => {
    place.asked.push(String(request.headers.range));
    place.answer(request, response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  const send = (method: string, headers: Record<string, string>, signal?: AbortSignal) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest({ host: "127.0.0.1", port, path: "/v1/pack", method, headers, agent: false });
      request.on("error", reject);
      request.on("response", (response) => {
        signal?.addEventListener("abort", () => response.destroy());
        resolve(response);
      });
      request.end();
    });
  const place: Place = {
    pack,
    file: join(folder, "part"),
    generation: "g",
    asked: [],
    answer: (request, response) => void answerPack(source, request, response),
    request: (more = {}) => {
      const notes: string[] = [];
      const openStream: DownloadRequest["client"]["openStream"] = async (method, _path, { headers = {}, signal }) => {
        const response = await send(method, headers, signal).catch((cause) => {
          throw new UnreachableError("Cannot reach it", "wait", { cause });
        });
        if (response.statusCode === 200 || response.statusCode === 206) return response;
        response.resume();
        throw new AgentError(`Cannot: ${response.statusCode}`, "wait");
      };
      return {
        client: { openStream, where: "there" },
        file: place.file,
        onProgress: () => {},
        onNote: (text) => notes.push(text),
        notes,
        ...more,
      };
    },
    async get(headers = {}, method = "GET") {
      const response = await send(method, headers);
      const parts: Buffer[] = [];
      for await (const part of response) parts.push(part);
      return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(parts) };
    },
  };
  try {
    await body(place);
  } finally {
    server.closeAllConnections();
    await new Promise<void>((done) => server.close(() => done()));
    rmSync(folder, { recursive: true });
  }
}

test("GET and HEAD of the pack: whole, a range, none; a tag for each version", async () => {
  await atPlace(async ({ pack, get }) => {
    await writePack(pack, "g", 700_000);
    const bytes = readFileSync(pack);
    const whole = await get();
    assert.equal(whole.status, 200);
    assert.ok(whole.body.equals(bytes));
    assert.equal(whole.headers["accept-ranges"], "bytes");
    const head = await get({}, "HEAD");
    assert.deepEqual([head.status, head.headers["content-length"], head.body.length], [200, String(bytes.length), 0]);
    const etag = head.headers.etag!;
    const range = await get({ range: "bytes=1000-1999", "if-range": etag });
    assert.deepEqual([range.status, range.headers["content-range"]], [206, `bytes 1000-1999/${bytes.length}`]);
    assert.ok(range.body.equals(bytes.subarray(1000, 2000)));
    const none = await get({ range: `bytes=${bytes.length}-` });
    assert.deepEqual([none.status, none.headers["content-range"], none.body.length], [
      416,
      `bytes */${bytes.length}`,
      0,
    ]);
    await writePack(pack, "g", 700_000);
    const other = await get({ range: "bytes=1000-1999", "if-range": etag });
    assert.deepEqual([other.status, other.body.equals(readFileSync(pack))], [200, true]);
  });
});

test("no pack, one of another generation, one that is none: refused with what to do", async () => {
  await atPlace(async ({ pack, get }) => {
    const refused = async () => {
      const { status, body } = await get();
      assert.equal(status, 409);
      const { error, remedy } = JSON.parse(body.toString());
      assert.match(remedy, /agent pack create/);
      return error;
    };
    assert.match(await refused(), /this primary has none/);
    await writePack(pack, "before", 1000);
    assert.match(await refused(), /the newest one is being made, or was not finished/);
    writeFileSync(pack, "no zip");
    assert.match(await refused(), /Cannot send the pack: .*no whole pack/);
  });
});

/** Answers as the server does, but the connection ends after so many bytes of each answer. */
function cutAfter(place: Place, bytes: () => number): void {
  const { answer } = place;
  place.answer = (request, response) => {
    let left = bytes();
    const write = response.write.bind(response) as (chunk: Uint8Array) => boolean;
    response.write = ((chunk: Uint8Array) => {
      const part = chunk.subarray(0, left);
      left -= part.length;
      const more = write(part);
      if (left === 0) setTimeout(() => response.destroy(), 5);
      return more;
    }) as typeof response.write;
    answer(request, response);
  };
}

test("a download that is cut again and again comes to its end, and nothing is sent twice", async () => {
  await atPlace(async (place) => {
    await writePack(place.pack, "g", 1_000_000);
    const { size } = statSync(place.pack);
    const cuts = [300_000, 1, 400_000, 10_000_000];
    cutAfter(place, () => cuts.shift()!);
    let last = 0;
    const request = place.request({
      onProgress: (bytes, total) => {
        assert.ok(bytes > last && total === size);
        last = bytes;
      },
    });
    assert.deepEqual(await downloadPack(request), { bytes: size, kept: 0 });
    assert.ok(readFileSync(place.file).equals(readFileSync(place.pack)));
    assert.equal(request.notes.length, 3);
    assert.equal(place.asked[0], "undefined");
    const from = place.asked.slice(1).map((range) => Number(/^bytes=(\d+)-$/.exec(range)![1]));
    assert.ok(from[0] > 0 && from[0] <= 300_000 && from[1] <= 300_001 && from[2] <= 700_001, place.asked.join());
  });
});

test("another command goes on with what is there; with a pack made anew in between it begins anew", async () => {
  await atPlace(async (place) => {
    await writePack(place.pack, "g", 600_000);
    await downloadPack(place.request());
    const { size } = statSync(place.pack);
    truncateSync(place.file, 250_000);
    assert.deepEqual(await downloadPack(place.request()), { bytes: size, kept: 250_000 });
    assert.ok(readFileSync(place.file).equals(readFileSync(place.pack)));
    // All there: only its last byte is asked for, to hear that it is still the newest.
    assert.deepEqual(await downloadPack(place.request()), { bytes: size, kept: size - 1 });
    assert.equal(place.asked.at(-1), `bytes=${size - 1}-`);

    truncateSync(place.file, 250_000);
    await writePack(place.pack, "g", 600_000);
    assert.deepEqual(await downloadPack(place.request()), { bytes: size, kept: 0 });
    assert.ok(readFileSync(place.file).equals(readFileSync(place.pack)));

    for (const note of ["", "{}", '{"etag":"x","total":5}', '{"etag":"\\"x\\"","total":5}']) {
      writeFileSync(`${place.file}.json`, note);
      assert.equal((await downloadPack(place.request())).kept, 0, note);
    }
  });
});

test("a pack that is made anew while it is sent is not mixed with the one before", async () => {
  await atPlace(async (place) => {
    await writePack(place.pack, "g", 3_000_000);
    const first = readFileSync(place.pack);
    const { answer } = place;
    let sent = false;
    place.answer = (request, response) => {
      answer(request, response);
      if (!sent) response.once("drain", () => void writePack(place.pack, "g", 2_000_000));
      sent = true;
    };
    // The answer that runs is of the file that was there when it began: whole, and of one version.
    assert.equal((await downloadPack(place.request())).bytes, first.length);
    assert.ok(readFileSync(place.file).equals(first));
    renameSync(place.pack, `${place.pack}.x`);
    renameSync(`${place.pack}.x`, place.pack);
    await downloadPack(place.request());
    assert.ok(readFileSync(place.file).equals(readFileSync(place.pack)));
  });
});

test("silence counts as a cut; what stays silent is given up, and what has arrived is kept", async () => {
  await atPlace(async (place) => {
    await writePack(place.pack, "g", 600_000);
    const { answer } = place;
    let answers = 0;
    const silentAfter = (bytes: number) => (request: IncomingMessage, response: ServerResponse) => {
      let left = bytes;
      const write = response.write.bind(response) as (chunk: Uint8Array) => boolean;
      response.write = ((chunk: Uint8Array) => {
        const part = chunk.subarray(0, left);
        left -= part.length;
        return part.length > 0 ? write(part) : false;
      }) as typeof response.write;
      answer(request, response);
    };
    place.answer = (request, response) => (++answers === 1 ? silentAfter(200_000) : answer)(request, response);
    const request = place.request({ idleMs: 200 });
    assert.equal((await downloadPack(request)).bytes, statSync(place.pack).size);
    assert.equal(request.notes.length, 1);
    assert.ok(readFileSync(place.file).equals(readFileSync(place.pack)));

    truncateSync(place.file, 100_000);
    place.answer = silentAfter(1);
    await assert.rejects(downloadPack(place.request({ idleMs: 50, giveUpMs: 40 })), (error: Error) => {
      assert.match(error.message, /there sent nothing for 0 s/);
      return error instanceof UnreachableError;
    });
    assert.equal(statSync(place.file).size, 100_001);
  });
});

test("who cannot be reached at all, or refuses, is not asked again", async () => {
  await atPlace(async (place) => {
    const request = place.request();
    await assert.rejects(downloadPack(request), /Cannot: 409/);
    place.answer = (_request, response) => response.destroy();
    await assert.rejects(downloadPack(request), UnreachableError);
    assert.equal(place.asked.length, 2);
    assert.deepEqual(request.notes, []);
    assert.equal(existsSync(place.file), false);
  });
});
