import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { checkTxn, TXN_OPS_MAX } from "./request-checks.ts";
import { Store } from "./store.ts";
import { compareOf, op, rangeOf, txnOf, weakHasher } from "./test-kit.ts";
import { isReadOnlyTxn } from "./txn.ts";
import type { Operation, OperationResult, RequestOp, TxnRequest } from "./types.ts";

function run(store: Store, ...operations: Operation[]): OperationResult[] {
  store.beginBatch(store.timeMs);
  const results = operations.map((each) => store.execute(each));
  store.endBatch();
  return results;
}

function newStore(): Store {
  return new Store({ engine: new MemoryEngine(), hasher: weakHasher });
}

const putA = op.put("a", "1");
const deleteA = op.delete("a");
const deleteAToC = op.delete("a", "c");
const either = op.txn({ success: [putA], failure: [putA] });
const nest = (...success: RequestOp[]) => op.txn({ success });

test("duplicate keys are refused as by etcd", () => {
  const cases: [string, RequestOp[], string | undefined][] = [
    ["two puts of one key", [putA, putA], "duplicateKey"],
    ["put and delete of one key", [putA, deleteA], "duplicateKey"],
    ["put inside a deleted range", [putA, deleteAToC], "duplicateKey"],
    ["put before a deleted range", [op.put("0", ""), deleteAToC], undefined],
    ["put at the end of a deleted range", [op.put("c", ""), deleteAToC], undefined],
    ["two deletes that overlap", [deleteA, deleteAToC, deleteA], undefined],
    ["the same put in both branches of one nested txn", [either], undefined],
    ["the same put in two sibling txns", [either, either], "duplicateKey"],
    ["a put and the same in a nested txn", [nest(putA), putA], "duplicateKey"],
    ["a put two levels down", [nest(nest(putA)), putA], "duplicateKey"],
    ["a nested put inside a deleted range", [nest(putA), deleteAToC], "duplicateKey"],
    ["a nested delete of a put key", [nest(deleteAToC), putA], "duplicateKey"],
    ["siblings, delete before put", [nest(deleteA), nest(putA)], "duplicateKey"],
    ["siblings, put before delete (etcd does not see it)", [nest(putA), nest(deleteA)], undefined],
    ["put and everything from a key on (etcd does not see it)", [op.delete("a", "\0"), putA], undefined],
    ["ranges never count", [putA, op.range("a"), op.range("a", "c")], undefined],
  ];
  for (const [name, ops, expected] of cases) {
    for (const txn of [txnOf({ success: ops }), txnOf({ failure: ops })]) {
      assert.equal(checkTxn(txn), expected, name);
      const [result] = run(newStore(), { type: "txn", txn });
      assert.equal(result!.type === "error" ? result!.error : undefined, expected, name);
    }
  }
});

test("what etcd does not see as duplicate runs in order, in one revision", () => {
  const store = newStore();
  run(store, op.put("a", "0"), op.put("b", "0"));
  const [result] = run(store, op.txn({ success: [op.delete("a", "\0"), putA, op.range("a", "z")] }));
  assert.ok(result!.type === "txn");
  assert.equal(result!.txn.revision, 4);
  const { kvs } = store.range(rangeOf("a", "\0"));
  assert.deepEqual(
    kvs.map((kv) => [kv.key, kv.createRevision, kv.version]),
    [["a", 4, 1]],
  );
  const events = store.events(4, 4, 10).map((event) => [event.type, event.kv.key, event.prevKv?.modRevision]);
  assert.deepEqual(events, [
    ["delete", "a", 2],
    ["delete", "b", 3],
    ["put", "a", undefined],
  ]);
  run(store, op.txn({ success: [nest(op.put("a", "2")), nest(deleteA)] }));
  const last = store.events(5, 5, 10).map((event) => [event.type, event.prevKv?.modRevision]);
  assert.deepEqual(last, [
    ["put", 4],
    ["delete", 4],
  ]);
  assert.equal(store.keyCount, 0);
});

test("a put that keeps what an earlier delete of its txn removes is refused, with no effect", () => {
  const store = newStore();
  run(store, putA);
  const keep = op.put("a", "", { ignoreValue: true });
  const [result] = run(store, op.txn({ success: [op.delete("a", "\0"), keep] }));
  assert.deepEqual(result, { type: "error", error: "keyNotFound" });
  assert.equal(store.revision, 2);
});

test("limits: 128 operations a level, less what the levels above have", () => {
  const puts = (count: number) => Array.from({ length: count }, (_, i) => op.put(`k${i}`, ""));
  assert.equal(checkTxn(txnOf({ success: puts(TXN_OPS_MAX) })), undefined);
  assert.equal(checkTxn(txnOf({ success: puts(TXN_OPS_MAX + 1) })), "tooManyOps");
  assert.equal(checkTxn(txnOf({ failure: puts(TXN_OPS_MAX + 1) })), "tooManyOps");
  const compare = Array.from({ length: TXN_OPS_MAX + 1 }, () => compareOf("a"));
  assert.equal(checkTxn(txnOf({ compare })), "tooManyOps");
  assert.equal(checkTxn(txnOf({ success: [op.txn({ success: puts(127) })] })), undefined);
  assert.equal(checkTxn(txnOf({ success: [op.txn({ success: puts(128) })] })), "tooManyOps");
  let deep: TxnRequest = txnOf({});
  for (let i = 0; i < 127; i++) deep = txnOf({ success: [{ type: "txn", txn: deep }] });
  assert.equal(checkTxn(deep), undefined);
  assert.equal(
    checkTxn(txnOf({ success: [{ type: "txn", txn: txnOf({ success: [op.txn(deep)] }) }] })),
    "tooManyOps",
  );
});

test("static checks name etcd's errors", () => {
  assert.equal(checkTxn(txnOf({ compare: [compareOf("")] })), "emptyKey");
  assert.equal(checkTxn(txnOf({ success: [op.put("", "")] })), "emptyKey");
  assert.equal(checkTxn(txnOf({ failure: [op.delete("")] })), "emptyKey");
  assert.equal(checkTxn(txnOf({ success: [op.range("", "\0")] })), "emptyKey");
  assert.equal(checkTxn(txnOf({ success: [op.put("a", "v", { ignoreValue: true })] })), "valueProvided");
  assert.equal(
    checkTxn(txnOf({ success: [op.put("a", "", { ignoreLease: true, lease: 1n })] })),
    "leaseProvided",
  );
  assert.equal(checkTxn(txnOf({ success: [op.range("a", "", { sortOrder: 3 as 2 })] })), "invalidSortOption");
  const unknown = { type: "nothing" } as unknown as RequestOp;
  assert.equal(checkTxn(txnOf({ success: [unknown] })), "keyNotFound");
});

test("one bad range anywhere in a txn leaves no trace of it", () => {
  for (const revision of [99, 1]) {
    const store = newStore();
    run(store, op.put("a", "0"), op.put("a", "1"), op.compact(3));
    const before = store.range(rangeOf("\0", "\0"));
    const error = revision === 99 ? "futureRevision" : "compacted";
    const bad = op.range("a", "", { revision });
    for (const success of [
      [op.put("x", "1"), bad],
      [bad, op.put("x", "1")],
      [op.put("x", "1"), nest(deleteA, bad)],
    ]) {
      const [result] = run(store, op.txn({ success }));
      assert.deepEqual(result, { type: "error", error });
      assert.deepEqual(store.range(rangeOf("\0", "\0")), before);
    }
    const [unchosen] = run(store, op.txn({ success: [op.put("x", "1")], failure: [bad] }));
    assert.equal(unchosen!.type, "txn", "a branch that is not chosen is not checked against the state");
  }
});

test("only-reading transactions are told from others and served without a batch", () => {
  const store = newStore();
  run(store, putA);
  const reading = txnOf({ compare: [compareOf("a", { number: 1 })], success: [op.range("a")] });
  assert.ok(isReadOnlyTxn(reading));
  assert.ok(!isReadOnlyTxn(txnOf({ success: [op.txn({})] })), "a nested one counts as a write");
  assert.ok(!isReadOnlyTxn(txnOf({ failure: [putA] })));
  const result = store.readTxn(reading);
  assert.equal(result.succeeded, true);
  assert.equal(result.revision, 2);
  assert.throws(
    () => store.readTxn(txnOf({ success: [op.range("a", "", { revision: 9 })] })),
    /futureRevision/,
  );
});
