import assert from "node:assert/strict";
import http2 from "node:http2";
import net from "node:net";
import test from "node:test";
import fc from "fast-check";
import { Http2Connection } from "./connection.ts";
import { encodeHeaders, HeaderBlockError, HeaderDecoder, type RequestHead } from "./hpack.ts";
import { TEST_LIMITS } from "./raw-client.ts";

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

test("the examples of RFC 7541 are decoded, with and without Huffman, the table shared between them", () => {
  for (const blocks of [
    [
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "8286 84be 5808 6e6f 2d63 6163 6865",
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ],
    [
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      "8286 84be 5886 a8eb 1064 9cbf",
      "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ],
  ]) {
    const decoder = new HeaderDecoder();
    const heads = blocks.map((block) => decoder.decode(hex(block)));
    assert.deepEqual(
      heads.map(({ method, path }) => [method, path]),
      [
        ["GET", "/"],
        ["GET", "/"],
        ["GET", "/index.html"],
      ],
    );
    // Sizes count name, value and 32 for each field, so they show that all text was read right.
    assert.deepEqual(
      heads.map(({ sizeBytes }) => sizeBytes),
      [180, 233, 245],
    );
  }
});

test("blocks that break the rules are refused", () => {
  const bad: Record<string, string> = {
    "index 0": "80",
    "index beyond the table": "be",
    "a table larger than allowed": "3fe2 1f",
    "a table update behind a field": "8220",
    "an integer without an end": "ff",
    "an integer that is too large": "ffff ffff ffff ffff 7f",
    "a string longer than the block": "0005 6161",
    "Huffman padding of zeros": "0081 00 0161",
    "the end symbol inside a string": "0084 ffff ffff 0161",
    "a missing value": "0001 61",
  };
  for (const [what, block] of Object.entries(bad)) {
    assert.throws(() => new HeaderDecoder().decode(hex(block)), HeaderBlockError, what);
  }
});

test("any bytes are decoded or refused, nothing else", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 5 }), (blocks) => {
      const decoder = new HeaderDecoder();
      for (const block of blocks) {
        try {
          decoder.decode(Buffer.from(block));
        } catch (error) {
          assert.ok(error instanceof HeaderBlockError, String(error));
          return;
        }
      }
    }),
    { numRuns: 3_000 },
  );
});

test("what we encode is what we decode", () => {
  const text = fc.string({ maxLength: 300 });
  fc.assert(
    fc.property(text, text, (hasLeader, token) => {
      const block = encodeHeaders([
        [":method", "POST"],
        [":path", "/x"],
        ["hasleader", Buffer.from(hasLeader, "utf8").toString("latin1")],
        ["token", Buffer.from(token, "utf8").toString("latin1")],
      ]);
      const head = new HeaderDecoder().decode(block);
      assert.equal(Buffer.from(head.hasLeader!, "latin1").toString("utf8"), hasLeader);
      assert.equal(Buffer.from(head.token!, "latin1").toString("utf8"), token);
      assert.deepEqual([head.method, head.path], ["POST", "/x"]);
    }),
    { numRuns: 200 },
  );
});

test("an independent encoder's tables are followed through thousands of requests", async (context) => {
  const heads: RequestHead[] = [];
  const server = net.createServer((socket) => {
    new Http2Connection(socket, TEST_LIMITS, {
      request(stream, head) {
        heads.push(head);
        stream.end(encodeHeaders([[":status", "200"]]));
      },
      fault: assert.ifError,
      closed() {},
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  const session = http2.connect(`http://127.0.0.1:${port}`);
  context.after(() => {
    session.destroy();
    server.close();
  });
  // Values that come again, new ones that push others out of the table, and every printable character.
  const sent: { token: string; path: string }[] = [];
  for (let i = 0; i < 2_000; i++) {
    const printable = String.fromCharCode(0x21 + (i % 94)).repeat(1 + (i % 90));
    const token = i % 3 === 0 ? `t${i % 50}` : printable;
    const path = `/p/${i % 40}`;
    sent.push({ token, path });
    const answered = new Promise((resolve) => {
      const stream = session.request({
        ":path": path,
        token,
        [`x-${i % 70}`]: `value ${i}`,
        "grpc-timeout": `${i}m`,
      });
      stream.on("end", resolve);
      stream.resume();
    });
    if (i % 50 === 0) await answered;
  }
  while (heads.length < sent.length) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(
    heads.map(({ token, path }) => ({ token, path })),
    sent,
  );
  assert.deepEqual(
    heads.map(({ grpcTimeout }) => grpcTimeout),
    sent.map((_, i) => `${i}m`),
  );
});
