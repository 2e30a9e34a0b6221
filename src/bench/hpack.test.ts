import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeHeaders, encodeHeaders, HeaderBlockError } from "./hpack.ts";

const names = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
const values = fc.stringMatching(/^[ -~]{0,300}$/);

test("what is encoded decodes to the same", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(names, values), { selector: ([name]) => name }), (headers) => {
      assert.deepEqual([...decodeHeaders(encodeHeaders(headers))], headers);
    }),
  );
});

test("the examples of RFC 7541 without a dynamic table decode, Huffman coded and plain", () => {
  const block = (hexadecimal: string) => Buffer.from(hexadecimal.replaceAll(" ", ""), "hex");
  // C.2.2: a literal without indexing, indexed name.
  assert.deepEqual(
    [...decodeHeaders(block("040c 2f73 616d 706c 652f 7061 7468"))],
    [[":path", "/sample/path"]],
  );
  // C.2.3: a literal that is never indexed.
  assert.deepEqual(
    [...decodeHeaders(block("1008 7061 7373 776f 7264 0673 6563 7265 74"))],
    [["password", "secret"]],
  );
  // C.4.1: the first request with Huffman coding.
  assert.deepEqual(
    [...decodeHeaders(block("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"))],
    [
      [":method", "GET"],
      [":scheme", "http"],
      [":path", "/"],
      [":authority", "www.example.com"],
    ],
  );
});

test("any bytes decode or are refused with HeaderBlockError", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        decodeHeaders(bytes);
      } catch (error) {
        assert.ok(error instanceof HeaderBlockError, String(error));
      }
    }),
  );
});
