/** Laws of the encodings: one encoding for each message, record, value and bundle, and one reading of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DecodeError } from "../base/codec.ts";
import { testHasher, testMembership } from "../replica/testing/cluster.ts";
import { bundleDigest, decodeBundle, encodeBundleBody } from "./bundle.ts";
import { describeBytes, describeRecord } from "./describe.ts";
import { decodeLogEntry, encodeLogEntry } from "./log-records.ts";
import {
  decodeMessage,
  decodeStopDataBody,
  encodeMessage,
  encodeStopDataBody,
  MAX_BUNDLES_PER_VALUE,
  MAX_VALUE_SIZE_BYTES,
} from "./messages.ts";
import { decodeAppliedPosition, encodeAppliedPosition } from "./recovery.ts";
import * as arbitrary from "./test-arbitraries.test.ts";
import { decodeValue, encodeValue } from "./value.ts";

/** Checks both laws for one pair of functions: what is written is read back, and what is read is canonical. */
function checkCodec<T>(
  items: fc.Arbitrary<T>,
  encode: (item: T) => Uint8Array,
  decode: (bytes: Uint8Array) => T,
  numRuns = 60,
): void {
  const readOrRefused = (bytes: Uint8Array) => {
    let item: T;
    try {
      item = decode(bytes);
    } catch (error) {
      assert.ok(error instanceof DecodeError, String(error));
      return;
    }
    assert.deepEqual(encode(item), bytes);
  };
  fc.assert(
    fc.property(items, arbitrary.mutation, (item, mutation) => {
      const bytes = encode(item);
      assert.deepEqual(decode(bytes), item);
      readOrRefused(arbitrary.mutated(bytes, mutation));
    }),
    { numRuns },
  );
}

for (const [type, items] of Object.entries(arbitrary.messageOfType)) {
  test(`${type}: decode(encode(m)) = m, and accepted bytes are canonical`, () => {
    checkCodec(items, encodeMessage, decodeMessage);
  });
}

for (const [type, items] of Object.entries(arbitrary.logEntryOfType)) {
  test(`log record ${type}: decode(encode(r)) = r, and accepted bytes are canonical`, () => {
    checkCodec(items, encodeLogEntry, decodeLogEntry);
  });
}

test("bodies of STOPDATA, values and applied positions have one encoding", () => {
  checkCodec(arbitrary.stopDataBody, encodeStopDataBody, decodeStopDataBody, 200);
  checkCodec(arbitrary.value, encodeValue, decodeValue, 200);
  const position = fc.record(
    {
      cid: arbitrary.number53,
      digest: arbitrary.digest,
      timestampMs: arbitrary.number53,
      table: fc.uint8Array({ maxLength: 40 }),
      executionHash: arbitrary.digest,
    },
    { noNullPrototype: true },
  );
  checkCodec(position, encodeAppliedPosition, decodeAppliedPosition, 200);
});

test("random bytes are read as something canonical or refused", () => {
  const decoders = [
    [decodeMessage, encodeMessage],
    [decodeLogEntry, encodeLogEntry],
    [decodeValue, encodeValue],
    [decodeStopDataBody, encodeStopDataBody],
  ] as const;
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat({ max: 24 }), (bytes, code) => {
      if (bytes.length > 0) bytes[0] = code;
      for (const [decode, encode] of decoders) {
        let item: ReturnType<typeof decode>;
        try {
          item = decode(bytes);
        } catch (error) {
          assert.ok(error instanceof DecodeError, String(error));
          continue;
        }
        assert.deepEqual((encode as (item: unknown) => Uint8Array)(item), bytes);
      }
    }),
    { numRuns: 1_000 },
  );
});

test("messages of different content have different bytes", () => {
  fc.assert(
    fc.property(arbitrary.message, arbitrary.message, (a, b) => {
      const same = Buffer.compare(encodeMessage(a), encodeMessage(b)) === 0;
      assert.equal(same, JSON.stringify(a) === JSON.stringify(b));
    }),
    { numRuns: 500 },
  );
});

test("a value of the most bundles fits its bound exactly, and none passes it", () => {
  const reference = { origin: 1, incarnation: 1, seq: 1, digest: new Uint8Array(32) };
  const bundles = new Array(MAX_BUNDLES_PER_VALUE).fill(reference);
  const encoded = encodeValue({ cid: 1, previousDigest: new Uint8Array(32), timestampMs: 1, bundles });
  assert.equal(encoded.length, MAX_VALUE_SIZE_BYTES);
  assert.equal(decodeMessage(encodeMessage({ type: "value", cid: 1, value: encoded })).type, "value");
  const longer = encodeMessage({ type: "value", cid: 1, value: new Uint8Array(MAX_VALUE_SIZE_BYTES + 1) });
  assert.throws(() => decodeMessage(longer), DecodeError);
});

test("a bundle's digest covers all but its signature, and the membership", () => {
  const membership = testMembership(4).digest;
  const contents = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 4 });
  const number = arbitrary.number53;
  const header = fc.tuple(fc.nat({ max: 255 }), number, number, contents);
  fc.assert(
    fc.property(
      header,
      header,
      arbitrary.signature,
      arbitrary.mutation,
      (one, other, signature, mutation) => {
        const body = encodeBundleBody(...one);
        const encoded = Uint8Array.from([...body, ...signature]);
        const bundle = decodeBundle(testHasher, membership, encoded);
        assert.deepEqual([bundle.origin, bundle.incarnation, bundle.seq, bundle.operations], [...one]);
        assert.deepEqual(bundle.signature, signature);
        assert.deepEqual(bundle.digest, bundleDigest(testHasher, membership, body));
        const otherDigest = bundleDigest(testHasher, membership, encodeBundleBody(...other));
        assert.equal(
          Buffer.compare(bundle.digest, otherDigest) === 0,
          JSON.stringify(one) === JSON.stringify(other),
        );
        assert.notDeepEqual(bundle.digest, bundleDigest(testHasher, bundle.digest, body));
        try {
          decodeBundle(testHasher, membership, arbitrary.mutated(encoded, mutation));
        } catch (error) {
          assert.ok(error instanceof DecodeError, String(error));
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("descriptions never throw, whatever the bytes are", () => {
  fc.assert(
    fc.property(arbitrary.message, arbitrary.mutation, (message, mutation) => {
      const bytes = encodeMessage(message);
      assert.ok(describeBytes(bytes).startsWith(message.type));
      assert.ok(describeBytes(arbitrary.mutated(bytes, mutation)).length > 0);
      assert.ok(describeRecord(bytes).length > 0);
    }),
    { numRuns: 300 },
  );
  for (const items of Object.values(arbitrary.logEntryOfType)) {
    fc.assert(
      fc.property(items, (entry) => assert.ok(describeRecord(encodeLogEntry(entry)).startsWith(entry.type))),
      { numRuns: 30 },
    );
  }
});
