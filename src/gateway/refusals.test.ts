/** Requests that are no requests, or not in time: what etcd refuses is refused in its words, and not executed. */
import assert from "node:assert/strict";
import http2 from "node:http2";
import net from "node:net";
import test, { type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { ErrorCode, FrameType } from "./http2/constants.ts";
import { encodeHeaders } from "./http2/hpack.ts";
import { RawClient, requestFrame } from "./http2/raw-client.ts";
import { encodeMessage } from "./testing/client.ts";
import { type Fixture, KV, LEASE, startGateway, until, WATCH } from "./testing/fixture.ts";

/** Of the answer that a watcher was created, with its prefix, at least. */
const CREATED_SIZE_BYTES = 30;
const HEALTH = "/grpc.health.v1.Health";
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

function frame(message: Buffer, flag = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

const putBytes = (key: string, value = "v"): Buffer =>
  encodeMessage("etcdserverpb.PutRequest", { key, value });

interface Answer {
  readonly http: number | undefined;
  readonly grpc: string | undefined;
  readonly text: string;
  readonly headers: http2.IncomingHttpHeaders;
}

type Call = (path: string, body: Buffer, headers?: http2.OutgoingHttpHeaders) => Promise<Answer>;

/** Calls with any headers and bytes. */
async function start(context: TestContext): Promise<Fixture & { call: Call }> {
  const fixture = await startGateway(context);
  const session = http2.connect(`http://127.0.0.1:${fixture.port}`);
  context.after(() => session.destroy());
  const call: Call = (path, body, headers = {}) =>
    new Promise((resolve, reject) => {
      const whole = {
        ":method": "POST",
        ":path": path,
        "content-type": "application/grpc",
        te: "trailers",
        ...headers,
      };
      const stream = session.request(whole, { endStream: false });
      let got: http2.IncomingHttpHeaders = {};
      stream.on("response", (first) => (got = { ...first }));
      stream.on("trailers", (last) => (got = { ...got, ...last }));
      stream.on("error", reject);
      stream.on("close", () => {
        const text = decodeURIComponent(String(got["grpc-message"] ?? ""));
        const status = got[":status"] as unknown as number;
        resolve({ http: status, grpc: got["grpc-status"] as string, text, headers: got });
      });
      stream.end(body);
      stream.resume();
    });
  return { ...fixture, call };
}

const shown = ({ http, grpc, text }: Answer): unknown[] => [http, grpc, text];

async function assertAbsent({ client }: Fixture, ...keys: readonly string[]): Promise<void> {
  for (const key of keys) assert.equal((await client.unary(`${KV}/Range`, { key })).count, "0", key);
}

test("messages may be compressed with gzip, up to the limit of messages, and with nothing else", async (context) => {
  const fixture = await start(context);
  const { call, client } = fixture;
  const gzip = { "grpc-encoding": "gzip" };
  assert.deepEqual(
    shown(await call(`${KV}/Put`, frame(gzipSync(putBytes("zipped", "x".repeat(5_000))), 1), gzip)),
    [200, "0", ""],
  );
  assert.equal((await client.unary(`${KV}/Range`, { key: "zipped" })).kvs[0].value, "x".repeat(5_000));
  assert.equal((await call(`${KV}/Put`, frame(putBytes("plain")), gzip)).grpc, "0");
  const bomb = frame(gzipSync(Buffer.alloc(64 * 1024 * 1024)), 1);
  const max = 2 * 1024 * 1024;
  const tooLong = `grpc: received message after decompression larger than max ${max}`;
  assert.deepEqual(shown(await call(`${KV}/Put`, bomb, gzip)), [200, "8", tooLong]);
  const broken = await call(`${KV}/Put`, frame(putBytes("broken"), 1), gzip);
  assert.equal(broken.grpc, "13");
  assert.match(broken.text, /^grpc: failed to decompress the message: /);
  const identity = await call(`${KV}/Put`, frame(putBytes("flagged"), 1), { "grpc-encoding": "identity" });
  assert.deepEqual(shown(identity), [200, "13", "grpc: compressed flag set with identity or empty encoding"]);
  // grpc-go refuses the call for its header alone.
  for (const flag of [0, 1]) {
    const unknown = await call(`${KV}/Put`, frame(putBytes("snappy"), flag), { "grpc-encoding": "snappy" });
    assert.deepEqual(shown(unknown), [
      200,
      "12",
      'grpc: Decompressor is not installed for grpc-encoding "snappy"',
    ]);
    assert.equal(unknown.headers["grpc-accept-encoding"], "identity,gzip");
  }
  await assertAbsent(fixture, "broken", "flagged", "snappy");
});

test("a compressed message on a stream is read, also in pieces", async (context) => {
  const { port } = await startGateway(context);
  const session = http2.connect(`http://127.0.0.1:${port}`);
  context.after(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": WATCH,
    "content-type": "application/grpc",
    "grpc-encoding": "gzip",
  });
  const request = encodeMessage("etcdserverpb.WatchRequest", { create_request: { key: "k".repeat(300) } });
  const bytes = frame(gzipSync(request), 1);
  stream.write(bytes.subarray(0, 9));
  setTimeout(() => stream.write(Buffer.concat([bytes.subarray(9), frame(request), bytes])), 20);
  let received = 0;
  stream.on("data", (chunk: Buffer) => {
    received += chunk.length;
  });
  await until(() => received >= 3 * CREATED_SIZE_BYTES);
});

test("malformed messages are refused in etcd's words and nothing is written", async (context) => {
  const fixture = await start(context);
  const unary = "grpc: error unmarshalling request: ";
  const stream = "grpc: failed to unmarshal the received message: ";
  const refused: [string, string, string][] = [
    [`${KV}/Put`, "0a03777770 1005 1a0105", `${unary}proto: wrong wireType = 0 for field Value`],
    [`${KV}/Put`, "0a03777770 1a0105", `${unary}proto: wrong wireType = 2 for field Lease`],
    [`${KV}/Range`, "0805", `${unary}proto: wrong wireType = 0 for field Key`],
    [`${KV}/Txn`, "1a07 1205 0a03777770 0c", `${unary}proto: TxnRequest: wiretype end group for non-group`],
    [`${LEASE}/LeaseLeases`, "0a05", `${unary}unexpected EOF`],
    ["/etcdserverpb.Maintenance/Status", "0000", `${unary}proto: StatusRequest: illegal tag 0 (wire type 0)`],
    [`${HEALTH}/Check`, "0a05", `${unary}proto: cannot parse invalid wire-format data`],
    [`${HEALTH}/Check`, "0a01ff", `${unary}string field contains invalid UTF-8`],
    [WATCH, "0a0508", `${stream}unexpected EOF`],
    [WATCH, "1a020000", `${stream}proto: WatchProgressRequest: illegal tag 0 (wire type 0)`],
    [`${LEASE}/LeaseKeepAlive`, "0a0100", `${stream}proto: wrong wireType = 2 for field ID`],
    [`${HEALTH}/Watch`, "0a05", `${stream}proto: cannot parse invalid wire-format data`],
  ];
  for (const [path, bytes, text] of refused) {
    assert.deepEqual(shown(await fixture.call(path, frame(hex(bytes)))), [200, "13", text]);
  }
  // A group that nobody knows is skipped.
  assert.equal(
    (await fixture.call(`${KV}/Put`, frame(hex("0a0167 7b 0801 7b 7c 8501 01020304 7c")))).grpc,
    "0",
  );
  assert.equal((await fixture.client.unary(`${KV}/Range`, { key: "g" })).count, "1");
  await assertAbsent(fixture, "wwp");
});

test("calls whose time is over, or no time, are not executed", async (context) => {
  const fixture = await start(context);
  const { call } = fixture;
  for (const timeout of ["0n", "0S", "1n"]) {
    const late = await call(`${KV}/Put`, frame(putBytes("late")), { "grpc-timeout": timeout });
    assert.deepEqual(shown(late), [200, "4", "context deadline exceeded"], timeout);
  }
  const malformed: Record<string, string> = {
    "5x": 'transport: timeout unit is not recognized: "5x"',
    S: 'transport: timeout string is too short: "S"',
    "123456789S": 'transport: timeout string is too long: "123456789S"',
    "-1S": 'strconv.ParseUint: parsing "-1": invalid syntax',
  };
  for (const [timeout, text] of Object.entries(malformed)) {
    const answer = await call(`${KV}/Put`, frame(putBytes("late")), { "grpc-timeout": timeout });
    assert.deepEqual(shown(answer), [400, "13", `malformed grpc-timeout: ${text}`]);
  }
  await assertAbsent(fixture, "late");
});

test("other content types and methods of HTTP are not executed", async (context) => {
  const fixture = await start(context);
  const { call } = fixture;
  for (const type of ["application/grpc-web", "application/grpcx", "application/grpc-web+proto"]) {
    assert.deepEqual(shown(await call(`${KV}/Put`, frame(putBytes("typed")), { "content-type": type })), [
      415,
      "3",
      `invalid gRPC request content-type "${type}"`,
    ]);
  }
  for (const method of ["GET", "PUT", "post"]) {
    assert.deepEqual(shown(await call(`${KV}/Put`, frame(putBytes("typed")), { ":method": method })), [
      405,
      "13",
      `Received a HEADERS frame with :method "${method}" which should be POST`,
    ]);
  }
  await assertAbsent(fixture, "typed");
  for (const type of ["application/grpc+proto", "application/grpc;charset=utf-8"]) {
    assert.equal((await call(`${KV}/Put`, frame(putBytes("ok")), { "content-type": type })).grpc, "0");
  }
});

test("headers that HTTP/2 forbids end their stream", async (context) => {
  const { port } = await startGateway(context);
  const client = new RawClient(port);
  context.after(() => client.socket.destroy());
  client.begin();
  const pseudo: [string, string][] = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", `${KV}/Range`],
    [":authority", "x"],
  ];
  const plain: [string, string][] = [
    ["content-type", "application/grpc"],
    ["te", "trailers"],
  ];
  const forbidden: [string, (readonly [string, string])[]][] = [
    ["upper case", [...pseudo, ...plain, ["X-Upper", "1"]]],
    ["a space", [...pseudo, ...plain, ["x y", "1"]]],
    ["an empty name", [...pseudo, ...plain, ["", "1"]]],
    ["a second method", [[":method", "POST"], ...pseudo, ...plain]],
    ["a second path", [...pseudo, [":path", "/x"], ...plain]],
    ["a misplaced authority", [...pseudo.slice(0, 3), ...plain, pseudo[3]!]],
    ["an unknown pseudo-header", [[":other", "x"], ...pseudo, ...plain]],
    ["a response's pseudo-header", [[":status", "200"], ...pseudo, ...plain]],
    ["a connection header", [...pseudo, ...plain, ["connection", "close"]]],
  ];
  for (const [i, [what, fields]] of forbidden.entries()) {
    client.send(requestFrame(2 * i + 1, true, encodeHeaders(fields)));
    const answer = await client.find(({ streamId }) => streamId === 2 * i + 1);
    assert.equal(answer.type, FrameType.rstStream, what);
    assert.equal(answer.payload.readUInt32BE(0), ErrorCode.protocolError, what);
  }
  client.send(requestFrame(99, true, encodeHeaders([...pseudo, ...plain, ["x-lower", "1"]])));
  assert.equal((await client.find(({ streamId }) => streamId === 99)).type, FrameType.headers);
});

test("more headers than allowed are answered, and the connection goes on", async (context) => {
  const { call } = await start(context);
  const many = (count: number): Record<string, string> =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-h${i}`, "v".repeat(40)]));
  const answer = await call(`${KV}/Put`, frame(putBytes("a")), many(900));
  assert.deepEqual(shown(answer), [431, "8", "received header list larger than max 65536"]);
  assert.equal((await call(`${KV}/Put`, frame(putBytes("a")), many(500))).grpc, "0");
});

test("requests that end too soon are refused as grpc-go does", async (context) => {
  const fixture = await start(context);
  const { call } = fixture;
  const put = frame(putBytes("half"));
  assert.deepEqual(shown(await call(`${KV}/Put`, Buffer.alloc(0))), [200, "2", "EOF"]);
  assert.deepEqual(shown(await call(`${KV}/Put`, put.subarray(0, 3))), [200, "2", "EOF"]);
  assert.deepEqual(shown(await call(`${KV}/Put`, put.subarray(0, 8))), [200, "2", "unexpected EOF"]);
  for (const path of [WATCH, `${LEASE}/LeaseKeepAlive`, `${HEALTH}/Watch`]) {
    assert.deepEqual(shown(await call(path, put.subarray(0, 8))), [200, "13", "unexpected EOF"], path);
  }
  await assertAbsent(fixture, "half");
});

test("Health.Watch takes one request, and Health.List names the whole server", async (context) => {
  const { call, client, backend } = await start(context);
  const empty = frame(Buffer.alloc(0));
  const violation = "cardinality violation: received";
  assert.deepEqual(shown(await call(`${HEALTH}/Watch`, Buffer.alloc(0))), [
    200,
    "13",
    `${violation} no request message from non-client-streaming RPC`,
  ]);
  assert.deepEqual(shown(await call(`${HEALTH}/Watch`, Buffer.concat([empty, empty]))), [
    200,
    "13",
    `${violation} multiple request messages for non-client-streaming RPC`,
  ]);
  assert.deepEqual(await client.unary(`${HEALTH}/List`), { statuses: { "": { status: "SERVING" } } });
  backend.reason = "stopped";
  assert.deepEqual(await client.unary(`${HEALTH}/List`), { statuses: { "": { status: "NOT_SERVING" } } });
});

test("HTTP/1.1 that can not be read is answered before the end", async (context) => {
  const { port } = await startGateway(context);
  for (const request of [
    "FOO /version HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /version HTTP/1.1\r\nno header\r\n\r\n",
  ]) {
    const socket = net.connect(port, "127.0.0.1");
    let answer = "";
    let closed = false;
    socket.on("data", (chunk) => (answer += chunk));
    socket.on("close", () => (closed = true));
    socket.write(request);
    await until(() => closed);
    assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/);
  }
});
