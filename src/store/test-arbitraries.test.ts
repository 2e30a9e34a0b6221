/**
 * Random requests over few keys, for the property tests of the store (no tests itself).
 */
import fc from "fast-check";
import type { Operation, RangeRequest, RequestOp, TxnRequest } from "./types.ts";

const key = fc.constantFrom("a", "b", "ba", "c", "d");
const rangeEnd = fc.constantFrom("", "", "", "\0", "b", "bz", "d");
const lease = fc.constantFrom(0n, 0n, 0n, 1n, 2n, -3n);
const value = fc.uint8Array({ maxLength: 3, max: 2 });
const revision = fc.constantFrom(0, 0, 0, -5, 1, 2, 3, 5, 8, 12, 20);
const filter = fc.constantFrom(0, 0, 0, 0, 2, 4, 7);
const rarely = fc.constantFrom(false, false, false, true);

export const range: fc.Arbitrary<RangeRequest> = fc.record({
  key,
  rangeEnd,
  limit: fc.constantFrom(0, 0, 1, 2, 3, -1),
  revision,
  sortOrder: fc.constantFrom(0, 0, 1, 2),
  sortTarget: fc.constantFrom(0, 0, 0, 1, 2, 3, 4),
  serializable: fc.boolean(),
  keysOnly: rarely,
  countOnly: rarely,
  minModRevision: filter,
  maxModRevision: filter,
  minCreateRevision: filter,
  maxCreateRevision: filter,
});
const put = fc.record({
  key,
  value,
  lease,
  prevKv: fc.boolean(),
  ignoreValue: rarely,
  ignoreLease: rarely,
});
const deleteRange = fc.record({ key, rangeEnd, prevKv: fc.boolean() });
const compare = fc.record({
  result: fc.constantFrom(0, 1, 2, 3),
  target: fc.constantFrom(0, 1, 2, 3, 4),
  key,
  rangeEnd,
  number: fc.constantFrom(0, 1, 2, 5, 9),
  lease,
  value,
});
const { txn } = fc.letrec<{ txn: TxnRequest; op: RequestOp }>((tie) => ({
  op: fc.oneof(
    { maxDepth: 3, depthIdentifier: "txn" },
    fc.record({ type: fc.constant("put" as const), put }),
    fc.record({ type: fc.constant("put" as const), put }),
    fc.record({ type: fc.constant("deleteRange" as const), deleteRange }),
    fc.record({ type: fc.constant("range" as const), range }),
    fc.record({ type: fc.constant("txn" as const), txn: tie("txn") }),
  ) as fc.Arbitrary<RequestOp>,
  txn: fc.record({
    compare: fc.array(compare, { maxLength: 2 }),
    success: fc.array(tie("op"), { maxLength: 3 }),
    failure: fc.array(tie("op"), { maxLength: 2 }),
  }) as fc.Arbitrary<TxnRequest>,
}));
export const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ type: fc.constant("put" as const), put }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("deleteRange" as const), deleteRange }) },
  { weight: 5, arbitrary: fc.record({ type: fc.constant("txn" as const), txn }) },
  {
    weight: 1,
    arbitrary: fc.record({
      type: fc.constant("compact" as const),
      revision: fc.integer({ min: -1, max: 20 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant("leaseGrant" as const),
      id: fc.constantFrom(1n, 2n, -3n),
      ttlSeconds: fc.constantFrom(-1, 0, 3, 10, 9_000_000_001),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("leaseRevoke" as const), id: lease }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("leaseKeepAlive" as const), id: lease }) },
  { weight: 1, arbitrary: fc.constant({ type: "noop" as const }) },
);

/** Plain data that deepEqual compares by content: byte arrays and bigints as text. */
export function plain(data: unknown): unknown {
  return JSON.parse(
    JSON.stringify(data ?? null, (_, each) =>
      each instanceof Uint8Array ? [...each].join() : typeof each === "bigint" ? `${each}n` : each,
    ),
  );
}
