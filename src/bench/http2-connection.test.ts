import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2Server, type ServerHttp2Stream } from "node:http2";
import { connect as connectSocket } from "node:net";
import { after, before, test } from "node:test";
import { CallError, call, callHeaders, connectTo } from "./connect.ts";
import { type CallStatus, Http2Connection } from "./http2-connection.ts";

/** Node's own HTTP/2 as the other side: echoes messages, fails on request, streams. */
let server: Http2Server;
let url: string;

function framed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function answer(stream: ServerHttp2Stream, path: string, message: Buffer): void {
  if (path === "/fail") {
    const failure = { ":status": 200, "content-type": "application/grpc", "grpc-status": "11" };
    stream.respond({ ...failure, "grpc-message": "mvcc: 100%25 compacted" }, { endStream: true });
    return;
  }
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  const repeats = path === "/thrice" ? 3 : 1;
  for (let index = 0; index < repeats; index++) stream.write(framed(message));
  stream.end();
}

before(async () => {
  server = createServer({ settings: { maxConcurrentStreams: 100 } });
  server.on("stream", (stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on("error", () => {});
    if (headers[":path"] === "/hang") return;
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => answer(stream, String(headers[":path"]), Buffer.concat(chunks).subarray(5)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
});

after(() => server.close());

test("messages of all sizes come back as they were sent", async () => {
  const connection = await connectTo(url, undefined);
  for (const size of [0, 1, 1000, 16_378, 16_379, 16_380, 25_000, 32_000]) {
    const message = Buffer.alloc(size, size % 251);
    assert.deepEqual(await call(connection, callHeaders("/echo"), message), message);
  }
  connection.close();
});

test("answers that come in pieces of any size, in bytes that are overwritten, are put together", async () => {
  const { hostname, port } = new URL(url);
  const socket = connectSocket(Number(port), hostname);
  await once(socket, "connect");
  const connection = new Http2Connection(socket);
  let pieceSize = 1;
  socket.on("data", (chunk: Buffer) => {
    for (let at = 0; at < chunk.length; at += pieceSize) {
      pieceSize = (pieceSize * 7 + 3) % 6007 || 1;
      const piece = Buffer.from(chunk.subarray(at, at + pieceSize));
      connection.receive(piece);
      piece.fill(0xff);
    }
  });
  const sizes = [0, 1, 4, 5, 1000, 16_379, 16_380, 32_000, 20, 31_000, 3];
  const answers = await Promise.all(
    sizes.map((size) => call(connection, callHeaders("/echo"), Buffer.alloc(size, size % 251))),
  );
  for (const [i, size] of sizes.entries()) assert.deepEqual(answers[i], Buffer.alloc(size, size % 251));
  connection.close();
});

test("two thousand calls at once outlast the send window and the limit on streams", async () => {
  const connection = await connectTo(url, undefined);
  const headers = callHeaders("/echo");
  const messages = Array.from({ length: 2000 }, (_, index) => Buffer.alloc(300 + (index % 100), index % 256));
  const answers = await Promise.all(messages.map((message) => call(connection, headers, message)));
  assert.deepEqual(answers, messages);
  connection.close();
});

test("a failure carries gRPC's code and its decoded text", async () => {
  const connection = await connectTo(url, undefined);
  await assert.rejects(call(connection, callHeaders("/fail"), Buffer.alloc(0)), (error) => {
    assert.ok(error instanceof CallError);
    assert.equal(error.code, 11);
    assert.match(error.message, /^mvcc: 100% compacted/);
    return true;
  });
  connection.close();
});

test("several messages of one stream are handed out one by one", async () => {
  const connection = await connectTo(url, undefined);
  const seen: number[] = [];
  const status = await new Promise<CallStatus>((resolve) =>
    connection.unary(callHeaders("/thrice"), Buffer.alloc(20_000), {
      message: (bytes) => seen.push(bytes.length),
      end: resolve,
    }),
  );
  assert.deepEqual(seen, [20_000, 20_000, 20_000]);
  assert.equal(status.code, 0);
  connection.close();
});

test("calls without an answer end with Unavailable when the connection ends", async () => {
  const connection = await connectTo(url, undefined);
  const status = new Promise<CallStatus>((resolve) =>
    connection.unary(callHeaders("/hang"), Buffer.alloc(3), { message: () => {}, end: resolve }),
  );
  setTimeout(() => connection.close(), 20);
  assert.equal((await status).code, 14);
  await assert.rejects(call(connection, callHeaders("/echo"), Buffer.alloc(0)), /not connected/);
});

test("a port where nobody listens is refused with the address in the message", async () => {
  await assert.rejects(
    connectTo("http://127.0.0.1:1", undefined),
    /cannot connect to http:\/\/127\.0\.0\.1:1/,
  );
});
