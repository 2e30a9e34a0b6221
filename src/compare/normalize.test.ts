import assert from "node:assert/strict";
import { test } from "node:test";
import { firstDivergence, normalizeResponse, type Perspective } from "./normalize.ts";
import type { Message } from "./wire.ts";

const perspective: Perspective = { baseRevision: 10, leaseNames: new Map([[77n, "chosen#0"]]) };

function kv(key: string, version: number): Message {
  return { key, version, mod_revision: 12 };
}

test("normalize: revisions count from the base, chosen leases have names, own ids are only there", () => {
  const response = {
    header: { cluster_id: 5n, revision: 15 },
    prev_kv: { key: "k", lease: 77n, mod_revision: 11 },
  };
  assert.deepEqual(normalizeResponse(perspective, {}, response), {
    header: { cluster_id: "(set)", revision: 5 },
    prev_kv: { key: "k", lease: "chosen#0", mod_revision: 1 },
  });
});

test("normalize: the order within a tie is free, the order of ties is not", () => {
  const request = { sort_target: 1 };
  const compare = (left: Message[], right: Message[], more = false): boolean =>
    firstDivergence(
      normalizeResponse(perspective, request, { kvs: left, more }),
      normalizeResponse(perspective, request, { kvs: right, more }),
    ) === undefined;
  assert.ok(compare([kv("a", 1), kv("b", 1), kv("c", 2)], [kv("b", 1), kv("a", 1), kv("c", 2)]));
  assert.ok(!compare([kv("a", 1), kv("c", 2)], [kv("c", 2), kv("a", 1)]));
  assert.ok(!compare([kv("a", 1), kv("b", 1)], [kv("a", 1), kv("c", 1)]));
  // Cut by the limit: which of the tie came is free, how many and of which version is not.
  assert.ok(compare([kv("a", 1), kv("b", 2)], [kv("a", 1), kv("c", 2)], true));
  assert.ok(!compare([kv("a", 1), kv("b", 2)], [kv("a", 1), kv("c", 3)], true));
  assert.ok(!compare([kv("a", 1), kv("b", 2)], [kv("b", 1), kv("c", 2)], true));
});

test("normalize: without a sort, and sorted by key, order counts", () => {
  for (const request of [{}, { sort_order: 2 }]) {
    const left = normalizeResponse(perspective, request, { kvs: [kv("a", 1), kv("b", 1)] });
    const right = normalizeResponse(perspective, request, { kvs: [kv("b", 1), kv("a", 1)] });
    assert.equal(firstDivergence(left, right)?.path, "kvs.0.key");
  }
});

test("normalize: ties inside a nested transaction", () => {
  const request = { success: [{ request_txn: { failure: [{ request_range: { sort_target: 1 } }] } }] };
  const response = (kvs: Message[]): Message => ({
    succeeded: true,
    responses: [{ response_txn: { responses: [{ response_range: { kvs } }] } }],
  });
  const left = normalizeResponse(perspective, request, response([kv("a", 1), kv("b", 1)]));
  const right = normalizeResponse(perspective, request, response([kv("b", 1), kv("a", 1)]));
  assert.equal(firstDivergence(left, right), undefined);
});

test("divergence: an absent message differs from an empty one, a missing item shows", () => {
  assert.equal(firstDivergence({ header: {} }, {})?.path, "header");
  assert.deepEqual(firstDivergence({ kvs: [{ key: "a" }] }, { kvs: [] }), {
    path: "kvs.0",
    left: '{"key":"a"}',
    right: "(absent)",
  });
});
