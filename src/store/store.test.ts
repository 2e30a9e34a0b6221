import assert from "node:assert/strict";
import { test } from "node:test";
import { fromByteString } from "../base/bytes.ts";
import { MemoryEngine } from "../storage/memory-engine.ts";
import { EngineCorruptError, Table } from "./engine.ts";
import { recordKey } from "./record.ts";
import { Store } from "./store.ts";
import { op, rangeOf, weakHasher } from "./test-kit.ts";
import { type Operation, type OperationResult, StoreError } from "./types.ts";

function newStore(engine = new MemoryEngine(), quotaBytes?: number): Store {
  return new Store({ engine, hasher: weakHasher, ...(quotaBytes === undefined ? {} : { quotaBytes }) });
}

function run(store: Store, timeMs: number, ...operations: Operation[]): OperationResult[] {
  store.beginBatch(timeMs);
  const results = operations.map((each) => store.execute(each));
  store.endBatch();
  return results;
}

function keysOf(store: Store): string {
  return store
    .range(rangeOf("\0", "\0"))
    .kvs.map((kv) => kv.key)
    .join();
}

test("an empty store is at revision 1 and nothing is compacted", () => {
  const store = newStore();
  assert.equal(store.revision, 1);
  assert.equal(store.compactRevision, -1);
  assert.deepEqual(store.range(rangeOf("a")), { revision: 1, kvs: [], more: false, count: 0 });
  assert.deepEqual(run(store, 1, op.delete("a"), op.grant(5n, 9), op.txn({})), [
    { type: "deleteRange", deleteRange: { revision: 1, deleted: 0, prevKvs: [] } },
    { type: "leaseGrant", revision: 1, id: 5n, ttlSeconds: 9 },
    { type: "txn", txn: { revision: 1, succeeded: true, responses: [] } },
  ]);
});

test("leases expire by agreed time, never early, in order, one revision each", () => {
  const store = newStore();
  run(
    store,
    1000,
    op.grant(9n, 5),
    op.grant(3n, 5),
    op.grant(4n, 8),
    op.put("b", "", { lease: 9n }),
    op.put("a", "", { lease: 9n }),
    op.put("c", "", { lease: 3n }),
    op.put("d", "", { lease: 4n }),
    op.put("e", ""),
  );
  assert.equal(store.nextExpiryMs(), 6000);
  run(store, 5999);
  assert.equal(keysOf(store), "a,b,c,d,e");
  run(store, 5999, op.keepAlive(4n));
  assert.equal(store.leaseTimeToLive(4n)!.expiresAtMs, 13999);
  run(store, 6000);
  assert.equal(keysOf(store), "d,e");
  const events = store
    .events(7, store.revision, 99)
    .map((event) => `${event.kv.modRevision} ${event.kv.key}`);
  assert.deepEqual(events, ["7 c", "8 a", "8 b"], "by expiry, then id; keys sorted");
  assert.equal(store.nextExpiryMs(), 13999);
  assert.deepEqual(run(store, 1, op.keepAlive(9n)), [
    { type: "leaseKeepAlive", revision: 8, id: 9n, ttlSeconds: 0 },
  ]);
  assert.equal(store.timeMs, 6000, "time never goes back");
  run(store, 14999);
  assert.equal(keysOf(store), "e");
  assert.equal(store.nextExpiryMs(), undefined);
});

test("a lease that came due while nothing could be ordered gets its whole time again, but once", () => {
  const engine = new MemoryEngine();
  const store = newStore(engine);
  run(store, 1000, op.grant(9n, 5), op.put("k", "", { lease: 9n }));
  // As after an outage: whoever holds it could not renew it, and does so now.
  run(store, 7001, op.keepAlive(9n));
  assert.equal(keysOf(store), "k");
  assert.equal(store.nextExpiryMs(), 12001);
  // Another one, and nobody comes: it ends after its time, though the agreed time jumps once more.
  run(store, 13002);
  assert.equal(store.nextExpiryMs(), 18002);
  const restarted = newStore(engine);
  run(restarted, 30000);
  assert.equal(keysOf(restarted), "");
  assert.equal(restarted.nextExpiryMs(), undefined);
});

test("lease rules: minimum, maximum, existing, unknown, moving a key", () => {
  const store = newStore();
  assert.deepEqual(run(store, 1, op.grant(1n, 1))[0], {
    type: "leaseGrant",
    revision: 1,
    id: 1n,
    ttlSeconds: 2,
  });
  const errorOf = (operation: Operation) => {
    const [result] = run(store, 1, operation);
    return result!.type === "error" ? result!.error : undefined;
  };
  assert.equal(errorOf(op.grant(1n, 5)), "leaseExists");
  assert.equal(errorOf(op.grant(2n, 9_000_000_001)), "leaseTtlTooLarge");
  assert.equal(errorOf(op.grant(2n, 9_000_000_000)), undefined);
  assert.equal(errorOf(op.grant(0n, 5)), "malformed");
  assert.equal(errorOf(op.revoke(7n)), "leaseNotFound");
  assert.equal(errorOf(op.put("a", "", { lease: 7n })), "leaseNotFound");
  run(store, 1, op.put("a", "", { lease: 1n }), op.put("a", "", { lease: 2n }));
  assert.deepEqual(store.leaseTimeToLive(1n)!.keys, []);
  assert.deepEqual(store.leaseTimeToLive(2n)!.keys, ["a"]);
  run(store, 1, op.put("a", "1", { ignoreLease: true }));
  assert.deepEqual(store.leaseTimeToLive(2n)!.keys, ["a"]);
  run(store, 1, op.put("a", ""));
  assert.deepEqual(store.leaseTimeToLive(2n)!.keys, []);
  const before = store.revision;
  run(store, 1, op.revoke(2n));
  assert.equal(store.revision, before, "a lease without keys makes no revision");
  assert.deepEqual(store.leases(), [1n]);
  assert.equal(store.leaseTimeToLive(2n), undefined);
});

test("compaction: bounds, what stays readable, deleted keys", () => {
  const store = newStore();
  run(store, 1, op.put("a", "1"), op.put("b", "1"), op.put("a", "2"), op.delete("b"), op.put("c", "1"));
  const errorOf = (revision: number) => {
    const [result] = run(store, 1, op.compact(revision));
    return result!.type === "error" ? result!.error : undefined;
  };
  assert.equal(errorOf(7), "futureRevision");
  assert.equal(errorOf(5), undefined);
  assert.equal(errorOf(5), "compacted");
  assert.equal(errorOf(-1), "compacted");
  assert.throws(() => store.range(rangeOf("a", "", { revision: 4 })), StoreError);
  assert.equal(store.range(rangeOf("a", "\0", { revision: 5 })).count, 1);
  assert.deepEqual(
    store.events(5, 9, 99).map((event) => [event.type, event.kv.key, event.prevKv]),
    [
      ["delete", "b", undefined],
      ["put", "c", undefined],
    ],
    "the deletion at the compacted revision is still told, its value before is not",
  );
});

test("compaction removes records once its checkpoint is kept, and only then", () => {
  const engine = new MemoryEngine();
  const store = newStore(engine);
  for (let i = 0; i < 10; i++) run(store, 1, op.put("a", String(i)), op.put("gone", ""), op.delete("gone"));
  const count = () => engine.range(Table.record, recordKey(0, 0), recordKey(1000, 0), 1000).length;
  run(store, 1, op.compact(store.revision));
  assert.equal(count(), 30);
  store.captureCheckpoint(1, new Uint8Array(0));
  while (store.work(1));
  assert.equal(count(), 30);
  assert.ok(store.keepCheckpoint(1, new Uint8Array(0)));
  while (store.work(1));
  assert.equal(count(), 2, "the newest version, and the deletion at the compacted revision");
  run(store, 1, op.put("a", "last"), op.compact(store.revision));
  run(store, 1, op.compact(store.revision));
  store.captureCheckpoint(2, new Uint8Array(0));
  while (store.work(1));
  assert.ok(store.keepCheckpoint(2, new Uint8Array(0)));
  while (store.work(1));
  assert.equal(count(), 1);
  assert.equal(newStore(engine).range(rangeOf("a")).kvs[0]!.version, 11);
});

test("the quota refuses what adds, counts history until it is compacted, and clears by itself", () => {
  const store = newStore(new MemoryEngine(), 20_000);
  const value = new Uint8Array(1000);
  let puts = 0;
  const put = () => run(store, 1, op.put(`k${puts++ % 3}`, value))[0]!;
  while (put().type === "put");
  assert.ok(puts > 15 && puts < 25);
  assert.deepEqual(store.alarms(), ["noSpace"]);
  assert.deepEqual(put(), { type: "error", error: "noSpace" });
  assert.deepEqual(run(store, 1, op.grant(1n, 5))[0], { type: "error", error: "noSpace" });
  const nested = op.txn({ failure: [op.txn({ success: [op.put("x", "")] })] });
  assert.deepEqual(run(store, 1, nested)[0], { type: "error", error: "noSpace" });
  assert.equal(run(store, 1, op.txn({ success: [op.delete("k0")] }))[0]!.type, "txn");
  run(store, 1, op.compact(store.revision));
  assert.deepEqual(store.alarms(), []);
  assert.equal(put().type, "put");
});

test("a revision is never split among answers to watchers", () => {
  for (const recentSizeBytes of [0, 400, 1_000_000]) {
    const engine = new MemoryEngine();
    let store = new Store({ engine, hasher: weakHasher, recentSizeBytes });
    const success = Array.from({ length: 5 }, (_, i) => op.put(`k${i}`, ""));
    run(store, 1, op.txn({ success }), op.put("x", ""), op.txn({ success }), op.put("y", ""));
    if (recentSizeBytes === 0) store = new Store({ engine, hasher: weakHasher });
    const lengths = (from: number, countMax: number) => store.events(from, 9, countMax).length;
    assert.deepEqual(
      [lengths(2, 1), lengths(2, 5), lengths(2, 6), lengths(2, 7), lengths(2, 99)],
      [5, 5, 6, 11, 12],
    );
    assert.equal(lengths(3, 1), 1);
    assert.equal(lengths(6, 9), 0);
    assert.equal(store.events(2, 3, 99).length, 6);
  }
});

test("events of recent revisions are shared, with their previous version", () => {
  const store = newStore();
  run(store, 1, op.put("a", "1"), op.put("a", "2"));
  const [event] = store.events(3, 3, 9);
  assert.equal(store.events(3, 3, 9)[0], event);
  assert.equal(event!.prevKv, event!.prevKv);
  assert.deepEqual(event!.prevKv!.value, fromByteString("1"));
});

test("bytes that are no operation are a refusal", () => {
  const store = newStore();
  store.beginBatch(1);
  for (const bytes of [[], [0], [99], [1, 0, 0, 0, 1], [8, 0]]) {
    assert.deepEqual(store.executeBytes(Uint8Array.from(bytes)), { type: "error", error: "malformed" });
  }
  store.endBatch();
  assert.equal(store.revision, 1);
});

test("damaged records are recognised when the store opens or reads", () => {
  const engine = new MemoryEngine();
  run(newStore(engine), 1, op.put("a", "1"), op.put("b", "1"));
  const bytes = engine.get(Table.record, recordKey(2, 0))!;
  const damaged = (change: (copy: Uint8Array) => Uint8Array) => {
    engine.put(Table.record, recordKey(2, 0), change(bytes.slice()));
    assert.throws(() => newStore(engine), EngineCorruptError);
  };
  damaged((copy) => copy.subarray(0, 20));
  damaged((copy) => copy.fill(3, 0, 1));
  damaged((copy) => copy.fill(9, 8, 9));
  damaged((copy) => copy.fill(255, 49, 53));
  engine.put(Table.record, recordKey(2, 0), bytes);
  const store = newStore(engine);
  engine.delete(Table.record, recordKey(2, 0));
  assert.throws(() => store.range(rangeOf("a")), EngineCorruptError);
});
