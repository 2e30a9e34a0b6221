import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { encodeFrameHeader, encodeFrames, FRAME_HEADER_SIZE_BYTES, FrameReader } from "./frame.ts";

function encode(messages: readonly Uint8Array[]): Buffer {
  const size = messages.reduce((sum, message) => sum + message.length + FRAME_HEADER_SIZE_BYTES, 0);
  return encodeFrames(messages, size);
}

describe("frames", () => {
  it("come out as they went in, however the stream is cut", () => {
    const messages = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 20 });
    const cuts = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(messages, cuts, (sent, sizes) => {
        const received: number[][] = [];
        const reader = new FrameReader(300, (message) => {
          received.push([...message]);
          return true;
        });
        const stream = Buffer.concat([encode(sent), encodeFrameHeader(0), encode(sent)]);
        for (let at = 0, i = 0; at < stream.length; i++) {
          const size = sizes[i % sizes.length]!;
          assert.ok(reader.read(stream.subarray(at, at + size)));
          at += size;
        }
        const expected = sent.map((message) => [...message]);
        assert.deepEqual(received, [...expected, ...expected]);
      }),
    );
  });

  it("are handed on without a copy when they lie in one chunk", () => {
    const chunk = encode([new Uint8Array([1, 2]), new Uint8Array([3])]);
    const reader = new FrameReader(10, (message) => {
      assert.equal(message.buffer, chunk.buffer);
      return true;
    });
    assert.ok(reader.read(chunk));
  });

  it("are refused by their announced length, before memory is taken", () => {
    for (const length of [11, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const reader = new FrameReader(10, () => assert.fail("no message was sent"));
      assert.equal(reader.read(encodeFrameHeader(length)), false);
    }
  });

  it("are not read any further once the connection is closed", () => {
    let count = 0;
    const reader = new FrameReader(10, () => ++count < 2);
    reader.read(encode([new Uint8Array(1), new Uint8Array(1), new Uint8Array(1)]));
    assert.equal(count, 2);
  });

  it("end in no surprise whatever the bytes are", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (chunks) => {
        let delivered = 0;
        const reader = new FrameReader(64, (message) => {
          delivered += message.length;
          assert.ok(message.length > 0 && message.length <= 64);
          return true;
        });
        let total = 0;
        for (const chunk of chunks) {
          total += chunk.length;
          if (!reader.read(chunk)) break;
        }
        assert.ok(delivered <= total);
      }),
    );
  });
});
