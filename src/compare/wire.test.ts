import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { rpcs, watchRequest } from "./etcd-schema.ts";
import { decode, encode, type Message, WireError } from "./wire.ts";

test("wire: bytes that are known to be right", () => {
  // From protobuf's own description of the encoding: field 3 = 150 is 18 96 01.
  assert.equal(encode(rpcs.range.request, { key: "a", limit: 150 }).toString("hex"), "0a0161189601");
  const negative = encode(rpcs.range.request, { revision: -1 });
  assert.equal(negative.toString("hex"), "20ffffffffffffffffff01");
  assert.deepEqual(decode(rpcs.range.request, negative), { revision: -1 });
});

test("wire: what is encoded is decoded, with defaults left out", () => {
  const message = fc.record({
    key: fc.array(fc.integer({ min: 0, max: 255 })).map((codes) => String.fromCharCode(...codes)),
    value: fc.constantFrom("", "v", "\xff\0"),
    lease: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    prev_kv: fc.boolean(),
  });
  fc.assert(
    fc.property(message, (fields) => {
      const decoded = decode(rpcs.put.request, encode(rpcs.put.request, fields));
      const expected: Message = {};
      for (const [name, value] of Object.entries(fields)) {
        if (value !== "" && value !== 0n && value !== false) expected[name] = value;
      }
      assert.deepEqual(decoded, expected);
    }),
  );
});

test("wire: an empty message inside another is not an absent one", () => {
  assert.deepEqual(decode(watchRequest, encode(watchRequest, { progress_request: {} })), {
    progress_request: {},
  });
  assert.deepEqual(decode(watchRequest, Buffer.alloc(0)), {});
});

test("wire: fields that are not known show", () => {
  assert.deepEqual(decode(rpcs.put.response, Buffer.from("980601", "hex")), { "?99": 1n });
});

test("wire: bytes that are no message", () => {
  for (const hex of ["0a05", "0a", "ff", "0d00000000", "08ffffffffffffffffffff01"]) {
    assert.throws(() => decode(rpcs.range.request, Buffer.from(hex, "hex")), WireError, hex);
  }
});
