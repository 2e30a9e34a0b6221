/** The HTTP/2 of the door against peers that follow the protocol and peers that do not. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import test, { type TestContext } from "node:test";
import { Prng } from "../../base/prng.ts";
import { until } from "../testing/fixture.ts";
import { ErrorCode, Flag, FrameType, PREFACE, Setting } from "./constants.ts";
import { encodeHeaders } from "./hpack.ts";
import {
  frameBytes,
  RawClient,
  type RawServer,
  requestFrame,
  settingsFrame,
  startRawServer,
  u32,
} from "./raw-client.ts";
import type { Http2Stream } from "./stream.ts";

const OK = encodeHeaders([[":status", "200"]]);
const TRAILERS = encodeHeaders([["grpc-status", "0"]]);
const body = (sizeBytes: number): Buffer => Buffer.alloc(sizeBytes, "0123456789");

type Options = Parameters<typeof startRawServer>[1];

/** A server that answers every request with its own body once it is complete. */
async function startEcho(context: TestContext, limits: Options = {}): Promise<RawServer> {
  const server = await startRawServer((stream) => {
    const chunks: Buffer[] = [];
    stream.events = {
      data: (chunk) => chunks.push(Buffer.from(chunk)),
      end() {
        stream.sendHeaders(OK);
        stream.write(Buffer.concat(chunks));
        stream.end(TRAILERS);
      },
      drained() {},
      closed() {},
    };
  }, limits);
  context.after(() => server.close());
  return server;
}

function connect(context: TestContext, server: RawServer): RawClient {
  const client = new RawClient(server.port);
  context.after(() => client.socket.destroy());
  return client;
}

async function echo(session: http2.ClientHttp2Session, payload: Buffer): Promise<Buffer> {
  const stream = session.request({ ":method": "POST", ":path": "/x" });
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise((resolve, reject) => {
    stream.on("end", resolve);
    stream.on("error", reject);
  });
  stream.end(payload);
  await ended;
  return Buffer.concat(chunks);
}

test("bodies of all sizes go both ways, many at once, through small windows", async (context) => {
  const server = await startEcho(context);
  for (const settings of [
    {},
    { initialWindowSize: 1_000 },
    { initialWindowSize: 4_000_000, maxFrameSize: 1_000_000 },
  ]) {
    const session = http2.connect(`http://127.0.0.1:${server.port}`, { settings });
    const sizes = [0, 1, 4_094, 4_095, 4_096, 16_384, 16_385, 65_535, 65_536, 300_000, 3_000_000];
    await Promise.all(
      sizes.map(async (size) => {
        const payload = body(size);
        assert.ok((await echo(session, payload)).equals(payload), `${size} bytes`);
      }),
    );
    session.destroy();
  }
  assert.deepEqual(server.faults, []);
});

test("a stream sends no more than its window and the connection's, and goes on when they open", async (context) => {
  const server = await startEcho(context);
  const client = connect(context, server);
  client.send(PREFACE, settingsFrame([Setting.initialWindowSize, 100]));
  const data = frameBytes(FrameType.data, Flag.endStream, 1, body(1_000));
  client.send(requestFrame(1, false), data);
  await until(() => client.received(1).length === 100);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(client.received(1).length, 100);
  client.send(frameBytes(FrameType.windowUpdate, 0, 1, u32(250)));
  await until(() => client.received(1).length === 350);
  // A larger initial window opens those of open streams too; a smaller one may make them negative.
  client.send(settingsFrame([Setting.initialWindowSize, 200]));
  await until(() => client.received(1).length === 450);
  client.send(
    settingsFrame([Setting.initialWindowSize, 0]),
    frameBytes(FrameType.windowUpdate, 0, 1, u32(150)),
  );
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(client.received(1).length, 450);
  client.send(frameBytes(FrameType.windowUpdate, 0, 1, u32(10_000)));
  await until(() => client.received(1).length === 1_000);
  await client.find(({ type, flags }) => type === FrameType.headers && (flags & Flag.endStream) !== 0);
  assert.ok(client.received(1).equals(body(1_000)));
});

test("the window of the connection is shared and kept", async (context) => {
  const server = await startEcho(context);
  const client = connect(context, server);
  client.send(PREFACE, settingsFrame([Setting.initialWindowSize, 1_000_000]));
  for (const id of [1, 3]) {
    client.send(requestFrame(id, false));
    for (let i = 0; i < 4; i++) {
      client.send(frameBytes(FrameType.data, i === 3 ? Flag.endStream : 0, id, body(15_000)));
    }
  }
  const total = (): number => client.received(1).length + client.received(3).length;
  await until(() => total() === 65_535);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(total(), 65_535);
  assert.ok(client.received(3).length > 0, "no stream keeps the window for itself");
  client.send(frameBytes(FrameType.windowUpdate, 0, 0, u32(100_000)));
  await until(() => total() === 120_000);
});

test("what is received is given back, so that a client can go on sending", async (context) => {
  let received = 0;
  const server = await startRawServer((stream) => {
    stream.events = {
      data(chunk) {
        received += chunk.length;
      },
      end: () => stream.end(encodeHeaders([[":status", "200"]])),
      drained() {},
      closed() {},
    };
  });
  context.after(() => server.close());
  const session = http2.connect(`http://127.0.0.1:${server.port}`);
  context.after(() => session.destroy());
  await echo(session, body(20_000_000));
  assert.equal(received, 20_000_000);
});

test("a paused stream holds back its client but no other one", async (context) => {
  let paused: Http2Stream | undefined;
  let received = 0;
  const server = await startRawServer((stream, head) => {
    const isPaused = head.path === "/paused";
    if (isPaused) {
      paused = stream;
      stream.pause();
    }
    stream.events = {
      data(chunk) {
        if (isPaused) received += chunk.length;
      },
      end: () => stream.end(encodeHeaders([[":status", "200"]])),
      drained() {},
      closed() {},
    };
  });
  context.after(() => server.close());
  const session = http2.connect(`http://127.0.0.1:${server.port}`);
  context.after(() => session.destroy());
  const stream = session.request({ ":method": "POST", ":path": "/paused" });
  let answered = false;
  stream.on("response", () => {
    answered = true;
  });
  stream.resume();
  stream.end(body(5_000_000));
  await echo(session, body(2_000_000));
  assert.deepEqual([received, answered], [0, false]);
  paused!.resume();
  await until(() => answered);
  assert.equal(received, 5_000_000);
});

test("breaches of the protocol end the connection with their code", async (context) => {
  const { protocolError, frameSizeError, compressionError, flowControlError, streamClosed } = ErrorCode;
  const server = await startEcho(context);
  const ended = requestFrame(1, true);
  const breaches: [string, number, Buffer[]][] = [
    ["an even stream", protocolError, [requestFrame(2, true)]],
    ["data on stream 0", protocolError, [frameBytes(FrameType.data, 0, 0, body(1))]],
    ["data on an idle stream", protocolError, [frameBytes(FrameType.data, 0, 7, body(1))]],
    ["reset of an idle stream", protocolError, [frameBytes(FrameType.rstStream, 0, 7, u32(0))]],
    ["update of an idle stream", protocolError, [frameBytes(FrameType.windowUpdate, 0, 7, u32(1))]],
    ["a pushed stream", protocolError, [frameBytes(FrameType.pushPromise, 0, 1, body(8))]],
    [
      "a block interrupted",
      protocolError,
      [frameBytes(FrameType.headers, 0, 1, OK), frameBytes(FrameType.ping, 0, 0, body(8))],
    ],
    [
      "a continuation of nothing",
      protocolError,
      [frameBytes(FrameType.continuation, Flag.endHeaders, 1, OK)],
    ],
    [
      "padding too long",
      protocolError,
      [requestFrame(1, false), frameBytes(FrameType.data, Flag.padded, 1, Buffer.from([9, 1]))],
    ],
    ["a ping of another size", frameSizeError, [frameBytes(FrameType.ping, 0, 0, body(7))]],
    ["settings cut short", frameSizeError, [frameBytes(FrameType.settings, 0, 0, body(5))]],
    ["a reset of another size", frameSizeError, [ended, frameBytes(FrameType.rstStream, 0, 1, body(3))]],
    ["a frame too long", frameSizeError, [frameBytes(FrameType.data, 0, 1, body(16_385))]],
    ["a broken header block", compressionError, [requestFrame(1, true, Buffer.from([0xff]))]],
    ["an update of nothing", flowControlError, [frameBytes(FrameType.windowUpdate, 0, 0, u32(0))]],
    ["a window too large", flowControlError, [frameBytes(FrameType.windowUpdate, 0, 0, u32(0x7fffffff))]],
    [
      "an initial window too large",
      flowControlError,
      [settingsFrame([Setting.initialWindowSize, 0x80000000])],
    ],
    ["a frame size too small", protocolError, [settingsFrame([Setting.maxFrameSize, 100])]],
    ["headers on an old stream", streamClosed, [requestFrame(5, true), requestFrame(3, true)]],
  ];
  for (const [what, code, frames] of breaches) {
    const client = connect(context, server);
    client.begin(...frames);
    assert.equal(await client.goAwayCode(), code, what);
    await until(() => client.closed);
  }
  const unsettled = connect(context, server);
  unsettled.send(PREFACE, frameBytes(FrameType.ping, 0, 0, body(8)));
  assert.equal(await unsettled.goAwayCode(), protocolError);
  assert.deepEqual(server.faults, []);
});

test("mistakes on a stream end that stream only", async (context) => {
  const server = await startEcho(context);
  const client = connect(context, server);
  client.begin(
    // Without a path.
    requestFrame(1, true, encodeHeaders([[":method", "POST"]])),
    requestFrame(3, false),
    frameBytes(FrameType.windowUpdate, 0, 3, u32(0)),
    requestFrame(5, false),
    // Headers behind the body that do not end the stream.
    requestFrame(5, false),
  );
  const resetCode = async (streamId: number): Promise<number> =>
    (
      await client.find((f) => f.type === FrameType.rstStream && f.streamId === streamId)
    ).payload.readUInt32BE(0);
  assert.equal(await resetCode(1), ErrorCode.protocolError);
  assert.equal(await resetCode(3), ErrorCode.flowControlError);
  assert.equal(await resetCode(5), ErrorCode.protocolError);
  // Trailers that end it are fine, and so are padding, priorities and unknown frames.
  const padded = Buffer.concat([Buffer.from([3]), body(10), Buffer.alloc(3)]);
  client.send(
    requestFrame(7, false),
    frameBytes(FrameType.priority, 0, 7, body(5)),
    frameBytes(0xfa, 0xff, 7, body(50)),
    frameBytes(FrameType.data, Flag.padded, 7, padded),
    requestFrame(7, true, TRAILERS),
  );
  await until(() => client.received(7).equals(body(10)));
  // Data of a stream that is over here is dropped.
  client.send(frameBytes(FrameType.data, 0, 3, body(10)), frameBytes(FrameType.ping, 0, 0, body(8)));
  await client.find(({ type, flags }) => type === FrameType.ping && flags === Flag.ack);
  assert.equal(client.closed, false);
});

test("streams above the limit are refused, and the others go on", async (context) => {
  const server = await startEcho(context, { streamsMax: 2 });
  const client = connect(context, server);
  client.begin(requestFrame(1, false), requestFrame(3, false), requestFrame(5, true));
  const refused = await client.find(({ type }) => type === FrameType.rstStream);
  assert.deepEqual([refused.streamId, refused.payload.readUInt32BE(0)], [5, ErrorCode.refusedStream]);
  client.send(frameBytes(FrameType.data, Flag.endStream, 1, body(5)));
  await until(() => client.received(1).length === 5);
  client.send(requestFrame(7, false), frameBytes(FrameType.data, Flag.endStream, 7, body(6)));
  await until(() => client.received(7).length === 6);
});

test("floods of what costs us work end the connection", async (context) => {
  const server = await startEcho(context, { resetBurst: 100, resetRatePerSecond: 1 });
  const flood = (frame: Buffer, count: number): Buffer =>
    Buffer.concat(Array.from({ length: count }, () => frame));
  const resets: Buffer[] = [];
  for (let id = 1; id < 400; id += 2)
    resets.push(requestFrame(id, false), frameBytes(FrameType.rstStream, 0, id, u32(8)));
  const floods: [string, Buffer][] = [
    ["rapid resets", Buffer.concat(resets)],
    ["pings", flood(frameBytes(FrameType.ping, 0, 0, body(8)), 11_000)],
    ["settings", flood(settingsFrame(), 11_000)],
    ["empty data", Buffer.concat([requestFrame(1, false), flood(frameBytes(FrameType.data, 0, 1), 11_000)])],
    [
      "continuations",
      Buffer.concat([
        frameBytes(FrameType.headers, 0, 1, OK),
        flood(frameBytes(FrameType.continuation, 0, 1, Buffer.alloc(1)), 100),
      ]),
    ],
  ];
  for (const [what, bytes] of floods) {
    const client = connect(context, server);
    client.begin(bytes);
    assert.equal(await client.goAwayCode(), ErrorCode.enhanceYourCalm, what);
  }
});

test("a client that reads nothing is not given memory without end", async (context) => {
  const server = await startEcho(context);
  const client = connect(context, server);
  client.socket.pause();
  client.begin();
  let sent = 0;
  const ping = Buffer.concat(Array.from({ length: 50 }, () => frameBytes(FrameType.ping, 0, 0, body(8))));
  for (let i = 0; i < 150; i++) {
    client.send(ping);
    sent += 50;
    await new Promise((resolve) => setImmediate(resolve));
  }
  client.socket.resume();
  await until(() => client.frames.filter(({ type }) => type === FrameType.ping).length === sent);
});

test("a smaller header table is acknowledged in the next block", async (context) => {
  const server = await startEcho(context);
  const client = connect(context, server);
  client.send(PREFACE, settingsFrame([Setting.headerTableSize, 0]), requestFrame(1, true));
  const headers = await client.find(({ type }) => type === FrameType.headers);
  assert.deepEqual([...headers.payload.subarray(0, 2)], [0x20, 0x88]);
});

test("a response before the end of the request is followed by a reset without error", async (context) => {
  const server = await startRawServer((stream) => stream.end(encodeHeaders([[":status", "200"]])));
  context.after(() => server.close());
  const client = connect(context, server);
  client.begin(requestFrame(1, false));
  const reset = await client.find(({ type }) => type === FrameType.rstStream);
  assert.equal(reset.payload.readUInt32BE(0), ErrorCode.noError);
  assert.equal(server.connections[0]!.streamCount, 0);
});

test("going away answers what is open and takes nothing new", async (context) => {
  const server = await startEcho(context);
  const client = connect(context, server);
  client.begin(requestFrame(1, false));
  await client.find(({ type, flags }) => type === FrameType.settings && flags === Flag.ack);
  server.connections[0]!.goAway();
  assert.equal(await client.goAwayCode(), ErrorCode.noError);
  client.send(requestFrame(3, true), frameBytes(FrameType.data, Flag.endStream, 1, body(9)));
  await until(() => client.closed);
  assert.equal(client.received(1).length, 9);
  assert.equal(
    client.frames.some(({ streamId }) => streamId === 3),
    false,
  );
});

test("random frames never do more than end their own connection", async (context) => {
  const server = await startEcho(context);
  const prng = new Prng(20261122);
  for (let round = 0; round < 150; round++) {
    const client = connect(context, server);
    const frames: Buffer[] = [];
    for (let i = 0; i < 30; i++) {
      const payload = Buffer.from(Array.from({ length: prng.below(40) }, () => prng.below(256)));
      const type = prng.below(11);
      const id = prng.below(6);
      if (prng.chance(0.3)) frames.push(requestFrame(2 * i + 1, prng.chance(0.5)));
      else frames.push(frameBytes(type, prng.below(256) & (prng.chance(0.5) ? 0x2d : 0xff), id, payload));
    }
    const bytes = Buffer.concat(frames);
    client.begin(bytes.subarray(0, prng.below(bytes.length)));
    if (prng.chance(0.5)) client.socket.end();
  }
  const session = http2.connect(`http://127.0.0.1:${server.port}`);
  context.after(() => session.destroy());
  assert.equal((await echo(session, body(100))).length, 100);
  assert.deepEqual(server.faults, []);
});
